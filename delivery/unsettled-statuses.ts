import type { Pool } from '../runtime/postgres.ts'

export interface StatusCount {
  readonly state: string
  readonly events: number
  /** Of the oldest, where they are to be settled yet. */
  readonly oldestMs: number | undefined
}

/** A status of the MES that is not in the Shop: it waits for something, or for a person. */
export interface UnsettledStatus {
  /** Of its row in the status inbox. */
  readonly id: string
  readonly orderId: string
  readonly state: 'waiting' | 'parked'
  readonly status: string | undefined
  /** Exact decimal text. */
  readonly price: string | undefined
  readonly currency: string | undefined
  readonly reason: string | undefined
  readonly tries: number
  readonly ageMs: number
}

const unsettled = `state IN ('open', 'waiting', 'parked')`

/** What is still to be settled; fast, however much has been. */
export async function countUnsettled(ledger: Pool): Promise<StatusCount[]> {
  // An arm for each partial index: one condition for all three would read the whole table.
  return counts(ledger, `state IN ('open', 'waiting') OR state = 'parked'`)
}

export function countStatuses(ledger: Pool): Promise<StatusCount[]> {
  return counts(ledger, 'true')
}

async function counts(ledger: Pool, which: string): Promise<StatusCount[]> {
  const { rows } = await ledger.query<
    Omit<StatusCount, 'oldestMs'> & { readonly oldest: number | null }
  >(
    `SELECT state, count(*)::int AS events,
       CASE WHEN ${unsettled} THEN extract(epoch FROM clock_timestamp() - min(received_at))::float8 * 1000 END AS oldest
     FROM status_inbox WHERE ${which} GROUP BY state
     ORDER BY array_position(ARRAY['open', 'waiting', 'parked', 'applied', 'superseded', 'backward', 'dropped', 'handed over'], state)`,
  )
  return rows.map(({ oldest, ...row }) => ({ ...row, oldestMs: oldest ?? undefined }))
}

/** Orders by the path of their statuses; those that have had none yet are in neither. */
export async function countPinned(
  ledger: Pool,
): Promise<{ readonly direct: number; readonly legacy: number }> {
  const { rows } = await ledger.query<{ direct: number; legacy: number }>(
    `SELECT count(*) FILTER (WHERE status_path = 'direct')::int AS direct,
       count(*) FILTER (WHERE status_path = 'legacy')::int AS legacy FROM order_ledger`,
  )
  return rows[0]!
}

/** What waits for a person comes first, then what is tried again by itself; the oldest of each first. */
export async function listUnsettled(ledger: Pool, limit: number): Promise<UnsettledStatus[]> {
  const { rows } = await ledger.query<
    Omit<UnsettledStatus, 'status' | 'price' | 'currency' | 'reason'> &
      Record<'status' | 'price' | 'currency' | 'reason', string | null>
  >(
    `SELECT id::text, order_id AS "orderId", state, status, price, currency, reason, tries,
       extract(epoch FROM clock_timestamp() - received_at)::float8 * 1000 AS "ageMs"
     FROM status_inbox WHERE state IN ('waiting', 'parked') ORDER BY state = 'waiting', status_inbox.id LIMIT $1`,
    [limit],
  )
  return rows.map((row) => ({
    ...row,
    status: row.status ?? undefined,
    price: row.price ?? undefined,
    currency: row.currency ?? undefined,
    reason: row.reason ?? undefined,
  }))
}
