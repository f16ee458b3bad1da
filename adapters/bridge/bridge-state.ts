import type { Client, Pool } from '../../runtime/postgres.ts'

/** absent -> inserting -> inserted -> removing -> absent */
export type BridgeState = 'absent' | 'inserting' | 'inserted' | 'removing'

export interface BridgeRow {
  readonly state: BridgeState
  readonly topologyChanges: number
  /** Messages received up to then may also have gone the other way; `infinity` while a change is under way. */
  readonly ambiguousUntil: string | null
  readonly changedAt: string
  readonly who: string
}

/** A queue without a row has no bridge. */
export async function readBridge(
  ledger: Pool | Client,
  queue: string,
): Promise<BridgeRow | undefined> {
  const { rows } = await ledger.query<BridgeRow>(
    `SELECT state, topology_changes AS "topologyChanges", ambiguous_until::text AS "ambiguousUntil", changed_at::text AS "changedAt", who
     FROM bridge WHERE queue = $1`,
    [queue],
  )
  return rows[0]
}

/** The begin of a change: whoever finds this state knows that the topology may be half way. */
export async function beginChange(
  ledger: Pool | Client,
  change: { queue: string; who: string; state: 'inserting' | 'removing'; exact: boolean },
): Promise<void> {
  await ledger.query(
    `INSERT INTO bridge (queue, state, ambiguous_until, who) VALUES ($1, $2, $3::timestamptz, $4)
     ON CONFLICT (queue) DO UPDATE SET state = excluded.state, ambiguous_until = excluded.ambiguous_until, changed_at = clock_timestamp(), who = excluded.who`,
    [change.queue, change.state, change.exact ? null : 'infinity', change.who],
  )
}

export async function endChange(
  ledger: Pool | Client,
  change: {
    queue: string
    state: 'inserted' | 'absent'
    ambiguousUntil: string | null
    changed: boolean
  },
): Promise<void> {
  await ledger.query(
    `UPDATE bridge SET state = $2, ambiguous_until = $3::timestamptz, topology_changes = topology_changes + $4, changed_at = clock_timestamp()
     WHERE queue = $1`,
    [change.queue, change.state, change.ambiguousUntil, change.changed ? 1 : 0],
  )
}

/** One person at a time changes a queue's bridge; the lock ends with the connection. */
export async function withBridgeLock<Result>(
  ledger: Pool,
  queue: string,
  work: () => Promise<Result>,
): Promise<Result> {
  const client = await ledger.connect()
  client.on('error', ignore)
  try {
    await client.query('SELECT pg_advisory_lock(46, hashtext($1))', [queue])
    return await work()
  } finally {
    client.off('error', ignore)
    // Closed, not reused: that ends the lock even when the connection is in an unknown state.
    client.release(true)
  }
}

/** A lost connection shows in the next statement; unheard it would end the process. */
function ignore(): void {}
