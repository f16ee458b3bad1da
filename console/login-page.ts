import type { Request, Response } from 'express'

import { noteEvent } from '../flags/timeline.ts'
import { html } from '../runtime/html.ts'
import type { Pool } from '../runtime/postgres.ts'
import { clearCookie, loginCookie, sessionCookie, setCookie, setLoginCookie } from './cookies.ts'
import { bodyOf, refuseOtherSites } from './guard.ts'
import { page } from './layout.ts'
import { countAttempt, forgetAttempts } from './login-attempts.ts'
import { isPassword } from './password.ts'
import { personOf } from './people.ts'
import { Refusal } from './refusal.ts'
import { beginSession, endSession, randomToken, sameSecret } from './sessions.ts'
import { userName } from './users.ts'

interface LoginOptions {
  readonly ledger: Pool
  readonly secure: boolean
}

export function showLogin({ secure }: LoginOptions) {
  return (request: Request, response: Response): void => {
    const next = localPath(request.query['next'])
    response.send(form(request, response, secure, next))
  }
}

export function logIn({ ledger, secure }: LoginOptions) {
  return async (request: Request, response: Response): Promise<void> => {
    refuseOtherSites(request)
    const body = bodyOf(request)
    const next = localPath(body['next'])
    if (!sameSecret(body['csrf'], loginCookie(request, secure) ?? ''))
      throw new Refusal(
        403,
        'This form is not yours',
        'Its token is missing, or of another browser. Open the login page again.',
      )
    const name = userName(body['name'] ?? '')
    const password = body['password'] ?? ''
    const address = request.ip ?? 'unknown'
    const known = /^[a-z0-9][a-z0-9._@-]{0,63}$/.test(name) ? name : '-'
    const waitSeconds = await countAttempt(ledger, known, address)
    if (waitSeconds !== undefined) {
      await note(ledger, 'nobody', 'too many attempts to sign in', address)
      response.set('Retry-After', `${waitSeconds}`)
      throw new Refusal(
        429,
        'Too many attempts',
        `Try again in ${Math.ceil(waitSeconds / 60)} minutes.`,
      )
    }
    const { rows } = await ledger.query<{ password: string }>(
      'SELECT password FROM console_user WHERE name = $1 AND NOT disabled',
      [known],
    )
    if (!(await isPassword(password, rows[0]?.password))) {
      // Of a name that nobody has nothing is kept: somebody may have typed the password there.
      await note(ledger, rows[0] === undefined ? 'nobody' : known, 'sign-in refused', address)
      response.status(401).send(form(request, response, secure, next, 'Name or password is wrong.'))
      return
    }
    await forgetAttempts(ledger, known, address)
    const before = sessionCookie(request, secure)
    if (before !== undefined) await endSession(ledger, before)
    const session = await beginSession(ledger, known, 'password')
    await note(ledger, known, 'signed in', address)
    setCookie(response, session.token, secure)
    response.redirect(303, next)
  }
}

export function logOut({ ledger, secure }: LoginOptions) {
  return async (request: Request, response: Response): Promise<void> => {
    const token = sessionCookie(request, secure)
    if (token !== undefined) await endSession(ledger, token)
    await note(ledger, personOf(request).name, 'signed out', request.ip ?? 'unknown')
    clearCookie(response, secure)
    response.redirect(303, '/login')
  }
}

function note(ledger: Pool, who: string, says: string, address: string): Promise<void> {
  return noteEvent(ledger, { phase: null, kind: 'login', who, says, detail: { address } })
}

/** A page of ours, and of nobody else's. */
export function localPath(given: unknown): string {
  if (typeof given !== 'string' || !/^\/(?![/\\])[^\p{Cc}]{0,2000}$/u.test(given)) return '/'
  const base = 'http://console.invalid'
  if (!URL.canParse(given, base)) return '/'
  const { origin, pathname, search } = new URL(given, base)
  return origin === base && !pathname.startsWith('//') ? `${pathname}${search}` : '/'
}

function form(
  request: Request,
  response: Response,
  secure: boolean,
  next: string,
  wrong?: string,
): string {
  // Kept while there is one: two tabs may stand open.
  const token = loginCookie(request, secure) ?? randomToken()
  setLoginCookie(response, token, secure)
  const content = html`<div class="login">
    <h1>Sign in</h1>
    <p>To see where the migration stands, and to move it.</p>
    ${wrong !== undefined && html`<p class="alarm" role="alert" id="wrong">${wrong}</p>`}
    <form method="post" action="/login">
      <input type="hidden" name="csrf" value="${token}" />
      <input type="hidden" name="next" value="${next}" />
      <label for="name">Name</label>
      <input
        id="name"
        name="name"
        autocomplete="username"
        autocapitalize="none"
        spellcheck="false"
        required
        maxlength="64"
      />
      <label for="password">Password</label>
      <input
        id="password"
        name="password"
        type="password"
        autocomplete="current-password"
        required
        maxlength="256"
      />
      <button>Sign in</button>
    </form>
    <p class="soft">
      Came here by a link although you are signed in? <a href="${next}">Open the page</a>. A new
      person: <code>strangler console-user add</code>.
    </p>
  </div>`
  return page({ title: 'Sign in', content })
}
