import type { Request, Response } from 'express'

import type { Pool } from '../runtime/postgres.ts'
import { sessionCookie, setCookie } from './cookies.ts'
import { beginSession, findSession } from './sessions.ts'
import type { Session } from './sessions.ts'
import { isTrustedPeer } from './trusted-peers.ts'
import type { TrustedPeers } from './trusted-peers.ts'
import type { Role } from './users.ts'

/** Who asks. */
export interface Person {
  readonly name: string
  readonly role: Role
  readonly csrf: string
  readonly source: Session['source']
}

/** A proxy of the house has authenticated the person and says so in a header; only its own word counts. */
export interface HeaderLogin {
  /** Lower case, such as `x-forwarded-user`. */
  readonly header: string
  readonly operators: ReadonlySet<string>
  readonly peers: TrustedPeers
}

export interface Identification {
  readonly ledger: Pool
  /** Undefined: people log in with a password, and no header says anything. */
  readonly headerLogin: HeaderLogin | undefined
  readonly secure: boolean
}

const known = new WeakMap<Request, Person>()

/** For a page that stands before the guards as well. */
export function personIfKnown(request: Request): Person | undefined {
  return known.get(request)
}

/** Throws where nobody was identified: a handler can't be reached by accident. */
export function personOf(request: Request): Person {
  const person = known.get(request)
  if (person === undefined) throw new Error('nobody is identified for this request')
  return person
}

export function remember(request: Request, person: Person): void {
  known.set(request, person)
}

/** A person of this request, or undefined. `look`: a person looks, and that keeps the session alive. */
export async function identify(
  request: Request,
  response: Response | undefined,
  { ledger, headerLogin, secure }: Identification,
  look: boolean,
): Promise<Person | undefined> {
  const token = sessionCookie(request, secure)
  const session = token === undefined ? undefined : await findSession(ledger, token, look)
  if (headerLogin === undefined) {
    if (session?.source !== 'password' || session.role === undefined) return undefined
    return { name: session.name, role: session.role, csrf: session.csrf, source: 'password' }
  }
  const name = nameInHeader(request, headerLogin)
  if (name === undefined) return undefined
  const role: Role = headerLogin.operators.has(name) ? 'operator' : 'reader'
  if (session?.source === 'header' && session.name === name)
    return { name, role, csrf: session.csrf, source: 'header' }
  // The session of one whom a header names only carries the CSRF token; an act without one is refused, so nothing is lost.
  if (response === undefined || request.method !== 'GET' || request.accepts('html') === false)
    return { name, role, csrf: '', source: 'header' }
  const begun = await beginSession(ledger, name, 'header')
  setCookie(response, begun.token, secure)
  return { name, role, csrf: begun.csrf, source: 'header' }
}

function nameInHeader(request: Request, login: HeaderLogin): string | undefined {
  if (!isTrustedPeer(login.peers, request.socket.remoteAddress)) return undefined
  // Two of them, and one may be the caller's own.
  const values = request.headersDistinct[login.header] ?? []
  const name = values.length === 1 ? values[0]!.trim() : ''
  return /^[^\p{Cc},]{1,128}$/u.test(name) ? name : undefined
}
