import type { Request, RequestHandler } from 'express'

import { noteEvent } from '../flags/timeline.ts'
import { identify, personOf, remember } from './people.ts'
import type { Identification } from './people.ts'
import { Refusal } from './refusal.ts'
import { sameSecret } from './sessions.ts'

const looks = new Set(['GET', 'HEAD'])

/** Strict: nothing of these pages comes from elsewhere, and no script or style stands in them. */
export function securityHeaders(secure: boolean): RequestHandler {
  return (request, response, next) => {
    // The UI of Bull Board sets styles of its own, and resolves its addresses against a base.
    const ofBoard = request.path === '/queues' || request.path.startsWith('/queues/')
    response.set({
      'Content-Security-Policy': [
        "default-src 'none'",
        "script-src 'self'",
        `style-src 'self'${ofBoard ? " 'unsafe-inline'" : ''}`,
        `img-src 'self'${ofBoard ? ' data:' : ''}`,
        `font-src 'self'`,
        "connect-src 'self'",
        "form-action 'self'",
        `base-uri ${ofBoard ? "'self'" : "'none'"}`,
        "frame-ancestors 'none'",
      ].join('; '),
      'Cache-Control': 'no-store',
      'Cross-Origin-Opener-Policy': 'same-origin',
      'Cross-Origin-Resource-Policy': 'same-origin',
      'Permissions-Policy': 'camera=(), geolocation=(), microphone=()',
      'Referrer-Policy': 'same-origin',
      'X-Content-Type-Options': 'nosniff',
      'X-Frame-Options': 'DENY',
      ...(secure ? { 'Strict-Transport-Security': 'max-age=31536000' } : {}),
    })
    next()
  }
}

/** Stands before every page but the login: who nobody knows goes there. */
export function requirePerson(identification: Identification): RequestHandler {
  return async function personRequired(request, response, next) {
    const person = await identify(request, response, identification, true)
    if (person !== undefined) {
      remember(request, person)
      next()
      return
    }
    const { headerLogin } = identification
    if (headerLogin !== undefined)
      throw new Refusal(
        401,
        'Not signed in',
        `This console is reached through the proxy of the house, which says who you are in the header ${headerLogin.header}.`,
      )
    const isPage = request.method === 'GET' && request.accepts(['text', 'html']) === 'html'
    if (!isPage || /^\/events(\/|$)/.test(request.path))
      throw new Refusal(401, 'Not signed in', 'Sign in first.')
    response.redirect(303, `/login?next=${encodeURIComponent(request.originalUrl)}`)
  }
}

/**
 * Everything but looking needs the token of the session, and to be an operator; whatever the route, also one that is added later.
 * A reader may log out.
 */
export function requireRightToAct(identification: Identification): RequestHandler {
  return async function rightToActRequired(request, _response, next) {
    if (looks.has(request.method)) {
      next()
      return
    }
    refuseOtherSites(request)
    const person = personOf(request)
    const given: unknown = request.get('x-xsrf-token') ?? bodyOf(request)['csrf']
    const refusal = !sameSecret(given, person.csrf)
      ? new Refusal(
          403,
          'This form is not yours',
          'Its token is missing, or of another session. Go back, reload the page and press again.',
        )
      : person.role !== 'operator' && request.path !== '/logout'
        ? new Refusal(
            403,
            'Not allowed',
            `You are signed in as a ${person.role}: only an operator may do this.`,
          )
        : undefined
    if (refusal !== undefined) {
      const says = `refused: ${request.method} ${request.path.slice(0, 200)}: ${refusal.title.toLowerCase()}`
      await noteEvent(identification.ledger, { phase: null, kind: 'login', who: person.name, says })
      throw refusal
    }
    next()
  }
}

/** What a browser says of where a form came from; it can't be forged by a page. */
export function refuseOtherSites(request: Request): void {
  const site = request.get('sec-fetch-site')
  if (site !== undefined && site !== 'same-origin')
    throw new Refusal(403, 'This form is not ours', 'It was sent from another site.')
}

/** The fields of a form; of a field that comes twice, the last. */
export function bodyOf(request: Request): Readonly<Record<string, string | undefined>> {
  const body: unknown = request.body
  if (typeof body !== 'object' || body === null) return {}
  const entries: [string, unknown][] = Object.entries(body)
  return Object.fromEntries(
    entries.map(([name, value]) => {
      const last: unknown = Array.isArray(value) ? value.at(-1) : value
      return [name, typeof last === 'string' ? last : undefined]
    }),
  )
}
