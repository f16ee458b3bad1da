import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'

import type { Pool } from '../runtime/postgres.ts'
import type { Role } from './users.ts'

export interface Session {
  readonly name: string
  readonly source: 'password' | 'header'
  /** Of a person of console_user, as it is now; of one whom a header names it is not known here. */
  readonly role: Role | undefined
  readonly csrf: string
}

export interface NewSession {
  /** For the cookie alone; it is stored nowhere. */
  readonly token: string
  readonly csrf: string
}

const idle = `interval '8 hours'`
const longest = `interval '7 days'`

/** Always a new token: one that somebody planted in a browser before the login is worth nothing after it. */
export async function beginSession(
  ledger: Pool,
  name: string,
  source: Session['source'],
): Promise<NewSession> {
  const token = randomToken()
  const csrf = randomToken()
  await ledger.query(
    `WITH over AS (DELETE FROM console_session WHERE seen_at < clock_timestamp() - ${idle} OR ends_at < clock_timestamp())
     INSERT INTO console_session (token_sha256, name, source, csrf, ends_at) VALUES ($1, $2, $3, $4, clock_timestamp() + ${longest})`,
    [sha256(token), name, source, csrf],
  )
  return { token, csrf }
}

/** Undefined: none of ours, idle for too long, or the person is disabled. A look of a person keeps it alive, a live view does not. */
export async function findSession(
  ledger: Pool,
  token: string,
  keepAlive: boolean,
): Promise<Session | undefined> {
  const { rows } = await ledger.query<
    Omit<Session, 'role'> & { readonly role: Role | null; readonly stale: boolean }
  >(
    `SELECT s.name, s.source, s.csrf, u.role, s.seen_at < clock_timestamp() - interval '1 minute' AS stale
     FROM console_session s LEFT JOIN console_user u ON u.name = s.name AND s.source = 'password'
     WHERE s.token_sha256 = $1 AND s.seen_at > clock_timestamp() - ${idle} AND s.ends_at > clock_timestamp()
       AND (s.source = 'header' OR NOT u.disabled)`,
    [sha256(token)],
  )
  const row = rows[0]
  if (row === undefined) return undefined
  if (row.stale && keepAlive)
    await ledger.query(
      'UPDATE console_session SET seen_at = clock_timestamp() WHERE token_sha256 = $1',
      [sha256(token)],
    )
  const { name, source, csrf, role } = row
  return { name, source, csrf, role: role ?? undefined }
}

export async function endSession(ledger: Pool, token: string): Promise<void> {
  await ledger.query('DELETE FROM console_session WHERE token_sha256 = $1', [sha256(token)])
}

export function randomToken(): string {
  return randomBytes(32).toString('base64url')
}

/** In a time that says nothing about how much of it was right. */
export function sameSecret(given: unknown, expected: string): boolean {
  if (typeof given !== 'string' || expected === '') return false
  return timingSafeEqual(sha256(given), sha256(expected))
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
