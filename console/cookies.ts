import type { Request, Response } from 'express'

// The prefix makes browsers refuse one that a neighbour of the same domain set.
const sessionName = (secure: boolean): string =>
  secure ? '__Host-strangler-session' : 'strangler-session'
const loginName = (secure: boolean): string =>
  secure ? '__Host-strangler-login' : 'strangler-login'

export function sessionCookie(request: Request, secure: boolean): string | undefined {
  return read(request, sessionName(secure))
}

export function setCookie(response: Response, token: string, secure: boolean): void {
  response.cookie(sessionName(secure), token, options(secure))
}

export function clearCookie(response: Response, secure: boolean): void {
  response.clearCookie(sessionName(secure), options(secure))
}

/** Ties a login form to the browser that it was sent to, before there is a session. */
export function loginCookie(request: Request, secure: boolean): string | undefined {
  return read(request, loginName(secure))
}

export function setLoginCookie(response: Response, token: string, secure: boolean): void {
  response.cookie(loginName(secure), token, options(secure))
}

/** Bull Board's own pages read it and send it back as X-XSRF-TOKEN. */
export function setBoardCookie(response: Response, csrf: string, secure: boolean): void {
  response.cookie('XSRF-TOKEN', csrf, { ...options(secure), httpOnly: false, path: '/queues' })
}

function options(secure: boolean) {
  return { httpOnly: true, sameSite: 'strict', secure, path: '/' } as const
}

function read(request: Request, name: string): string | undefined {
  for (const pair of (request.headers.cookie ?? '').split(';')) {
    const at = pair.indexOf('=')
    if (pair.slice(0, at).trim() !== name) continue
    const value = pair.slice(at + 1).trim()
    return /^[\w-]{20,100}$/.test(value) ? value : undefined
  }
  return undefined
}
