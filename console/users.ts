import { StranglerError } from '../contracts/errors.ts'
import { noteEvent } from '../flags/timeline.ts'
import type { Pool } from '../runtime/postgres.ts'
import { inTransaction } from '../runtime/postgres.ts'
import { hashPassword, passwordProblem } from './password.ts'

/** A reader sees everything and changes nothing. */
export type Role = 'reader' | 'operator'

export interface ConsoleUser {
  readonly name: string
  readonly role: Role
  readonly disabled: boolean
  readonly changedAt: Date
}

/** Lower case always: `Ann` and `ann` are one person. */
export function userName(given: string): string {
  return given.trim().toLowerCase()
}

export async function listUsers(ledger: Pool): Promise<ConsoleUser[]> {
  const { rows } = await ledger.query<ConsoleUser>(
    'SELECT name, role, disabled, changed_at AS "changedAt" FROM console_user ORDER BY name',
  )
  return rows
}

/** @throws StranglerError `invalid_argument` for a name or password that can't be, `refused` where the name is taken */
export async function addUser(
  ledger: Pool,
  user: {
    readonly name: string
    readonly role: Role
    readonly password: string
    readonly who: string
  },
): Promise<void> {
  const { name, role, who } = user
  if (!/^[a-z0-9][a-z0-9._@-]{0,63}$/.test(name))
    throw new StranglerError(
      'invalid_argument',
      `a name has 1 to 64 of a-z, 0-9 and . _ @ -, and begins with a letter or digit, got ${JSON.stringify(name)}`,
    )
  const password = await hashed(user.password)
  await inTransaction(ledger, async (client) => {
    const { rowCount } = await client.query(
      'INSERT INTO console_user (name, password, role) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING',
      [name, password, role],
    )
    if (rowCount !== 1)
      throw new StranglerError('refused', `${name} is there already; "password" gives a new one`)
    await noteEvent(client, {
      phase: null,
      kind: 'login',
      who,
      says: `made ${name}, ${role} of the console`,
    })
  })
}

export interface UserChange {
  readonly password?: string
  readonly role?: Role
  readonly disabled?: boolean
}

/**
 * Ends the person's sessions as well: what was true when they logged in is true no more.
 * @throws StranglerError `not_found`, `invalid_argument`
 */
export async function changeUser(
  ledger: Pool,
  name: string,
  change: UserChange,
  who: string,
): Promise<void> {
  const password = change.password === undefined ? null : await hashed(change.password)
  await inTransaction(ledger, async (client) => {
    const { rowCount } = await client.query(
      `UPDATE console_user SET password = coalesce($2, password), role = coalesce($3, role), disabled = coalesce($4, disabled),
         changed_at = clock_timestamp() WHERE name = $1`,
      [name, password, change.role ?? null, change.disabled ?? null],
    )
    if (rowCount !== 1)
      throw new StranglerError(
        'not_found',
        `${name} of the console; "strangler console-user list" names them`,
      )
    await client.query('DELETE FROM console_session WHERE name = $1', [name])
    const did = [
      ...(password === null ? [] : ['gave a new password to']),
      ...(change.role === undefined ? [] : [`gave the role ${change.role} to`]),
      ...(change.disabled === undefined ? [] : [change.disabled ? 'disabled' : 'enabled']),
    ].join(' and ')
    await noteEvent(client, { phase: null, kind: 'login', who, says: `${did} ${name}` })
  })
}

async function hashed(password: string): Promise<string> {
  const problem = passwordProblem(password)
  if (problem !== undefined)
    throw new StranglerError('invalid_argument', `this password can't be taken: ${problem}`)
  return hashPassword(password)
}
