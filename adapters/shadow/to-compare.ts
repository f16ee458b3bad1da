import type { Pool } from '../../runtime/postgres.ts'

const open = `compared_at IS NULL AND state = 'forwarded' AND order_id IS NOT NULL`

/** What the shadow of a phase still has to look at. Word for word the conditions of three partial indexes of `bridge_inbox`. */
export const toCompare = {
  'orders-direct': `${open} AND routing_key = 'order.submitted'`,
  'statuses-direct': `${open} AND routing_key IN ('order.price_calculated', 'order.status_changed')`,
  'partner-intake': `${open} AND routing_key = 'order.created'`,
} as const

export type ShadowedPhase = keyof typeof toCompare

export interface Waiting {
  readonly messages: number
  /** There are more: counting them would take long. */
  readonly more: boolean
  /** Since the oldest was forwarded. */
  readonly oldestMs: number | undefined
}

const countedUpTo = 100_000

export async function waitingToCompare(ledger: Pool, phase: ShadowedPhase): Promise<Waiting> {
  const { rows } = await ledger.query<{ messages: number; oldest: number | null }>(
    `SELECT (SELECT count(*)::int FROM (SELECT FROM bridge_inbox WHERE ${toCompare[phase]} LIMIT $1) w) AS messages,
       (SELECT (extract(epoch FROM clock_timestamp() - coalesce(settled_at, received_at)) * 1000)::float8
        FROM bridge_inbox WHERE ${toCompare[phase]} ORDER BY id LIMIT 1) AS oldest`,
    [countedUpTo],
  )
  const { messages, oldest } = rows[0]!
  return { messages, more: messages === countedUpTo, oldestMs: oldest ?? undefined }
}
