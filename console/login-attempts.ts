import type { Pool } from '../runtime/postgres.ts'

/**
 * How often within a quarter of an hour. By name and address: somebody guesses. By address: somebody tries names. By name, from
 * anywhere: many machines guess one person's; high, since reaching it also keeps that person out.
 */
const limits = { pair: 5, address: 30, name: 100 } as const
const windowMinutes = 15

/**
 * Counts an attempt, before its password is looked at: those that run at the same time can't pass the limit together. Undefined:
 * go on; otherwise the seconds until it may be tried again. A name that nobody has counts as well, so nothing is told by it.
 */
export async function countAttempt(
  ledger: Pool,
  name: string,
  address: string,
): Promise<number | undefined> {
  const keys = keysOf(name, address)
  await ledger.query(
    `DELETE FROM console_attempt WHERE key IN (
       SELECT key FROM console_attempt WHERE since < clock_timestamp() - interval '${windowMinutes} minutes' FOR UPDATE SKIP LOCKED)`,
  )
  const { rows } = await ledger.query<{ key: string; attempts: number; seconds: number }>(
    `INSERT INTO console_attempt AS a (key, attempts) SELECT key, 1 FROM unnest($1::text[]) AS k(key) ORDER BY key
     ON CONFLICT (key) DO UPDATE SET
       attempts = CASE WHEN a.since < clock_timestamp() - interval '${windowMinutes} minutes' THEN 1 ELSE a.attempts + 1 END,
       since = CASE WHEN a.since < clock_timestamp() - interval '${windowMinutes} minutes' THEN clock_timestamp() ELSE a.since END
     RETURNING key, attempts, ceil(extract(epoch FROM since + interval '${windowMinutes} minutes' - clock_timestamp()))::int AS seconds`,
    [keys],
  )
  const over = rows.filter(({ key, attempts }) => attempts > limits[kindOf(key)])
  return over.length === 0 ? undefined : Math.max(1, ...over.map(({ seconds }) => seconds))
}

/** A login that worked: what this person mistyped before is forgotten; what the address tried elsewhere is not. */
export async function forgetAttempts(ledger: Pool, name: string, address: string): Promise<void> {
  const [pair, , byName] = keysOf(name, address)
  await ledger.query('DELETE FROM console_attempt WHERE key = ANY($1)', [[pair, byName]])
}

function keysOf(name: string, address: string): readonly [string, string, string] {
  const short = name.slice(0, 64)
  return [`pair ${short} ${address}`, `address ${address}`, `name ${short}`]
}

function kindOf(key: string): keyof typeof limits {
  if (key.startsWith('pair ')) return 'pair'
  return key.startsWith('address ') ? 'address' : 'name'
}
