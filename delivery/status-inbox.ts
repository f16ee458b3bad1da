import type { OrderIdentity } from '../contracts/order-trace.ts'
import type { StatusEvent, Verdict } from '../contracts/status-rules.ts'
import type { Client, Pool } from '../runtime/postgres.ts'
import type { PendingStatuses } from './status-target.ts'

/** An event of the MES that does not go to CRM. `id` is that of its row in the bridge's inbox. */
export interface DivertedStatus {
  readonly id: string
  readonly orderId: string
  readonly status: string | undefined
  readonly price: string | undefined
  readonly currency: string | undefined
  /** The sender's clock. */
  readonly sourceAt: string | undefined
}

/** Within the transaction that settles the bridge's rows. Repeating it changes nothing. */
export async function storeStatuses(
  client: Client,
  events: readonly DivertedStatus[],
): Promise<void> {
  if (events.length === 0) return
  await client.query({
    name: 'store-statuses',
    text: `INSERT INTO status_inbox (id, order_id, status, price, currency, source_at, received_at)
           SELECT i.id, i.order_id, i.status, i.price, i.currency, i.source_at, clock_timestamp()
           FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
             AS i(id, order_id, status, price, currency, source_at)
           ON CONFLICT (id) DO NOTHING`,
    values: [
      events.map(({ id }) => id),
      events.map(({ orderId }) => orderId),
      events.map(({ status }) => status ?? null),
      events.map(({ price }) => price ?? null),
      events.map(({ currency }) => currency ?? null),
      events.map(({ sourceAt }) => sourceAt ?? null),
    ],
  })
}

interface OpenRow {
  id: string
  order_id: string
  status: string | null
  price: string | null
  currency: string | null
  accepted: boolean
  epoch: number | null
  gen: number | null
  traceparent: string | null
}

/**
 * What is open of these orders, locked until the transaction ends. Whoever comes second for an order waits here, for as long as
 * the first has its rows, and then sees what is left: so an order's events are applied serially, by any number of appliers.
 * The locks are taken in the order of the keys, so that two batches never wait for each other.
 */
export async function lockOpenStatuses(
  client: Client,
  orderIds: readonly string[],
): Promise<PendingStatuses[]> {
  const { rows } = await client.query<OpenRow>({
    name: 'lock-open-statuses',
    // OFFSET 0: a lookup by key for each, whatever the planner thinks of how many there are.
    text: `SELECT s.id, s.order_id, s.status, s.price, s.currency, s.accepted, l.status_epoch AS epoch, l.gen, l.traceparent
           FROM status_inbox s LEFT JOIN LATERAL (
             SELECT o.status_epoch, o.gen, o.traceparent FROM order_ledger o WHERE o.order_id = s.order_id OFFSET 0) l ON true
           WHERE s.order_id = ANY($1::text[]) AND s.state IN ('open', 'waiting')
           ORDER BY s.order_id, s.id FOR UPDATE OF s`,
    values: [orderIds],
  })
  const pending = new Map<string, OrderIdentity & { epoch: number; events: StatusEvent[] }>()
  for (const row of rows) {
    const { order_id: orderId, gen, traceparent, epoch } = row
    const of = pending.get(orderId) ?? {
      orderId,
      gen: gen ?? 0,
      traceparent,
      epoch: epoch ?? 0,
      events: [],
    }
    pending.set(orderId, of)
    of.events.push({
      id: Number(row.id),
      status: row.status ?? undefined,
      price: row.price ?? undefined,
      currency: row.currency ?? undefined,
      accepted: row.accepted,
    })
  }
  return [...pending.values()]
}

// The pause of what waits grows with every try, up to a minute. now() is the begin of the transaction, and so of the try.
const settle = `
  UPDATE status_inbox s SET state = v.state, reason = v.reason, tries = s.tries + 1, tried_at = coalesce(s.tried_at, now()),
    settled_at = CASE WHEN v.state IN ('waiting', 'parked') THEN NULL ELSE clock_timestamp() END,
    next_try_at = CASE WHEN v.state = 'waiting'
      THEN clock_timestamp() + least(60000, 100 * 2 ^ least(s.tries, 10)) * interval '1 millisecond' ELSE s.next_try_at END
  FROM unnest($1::bigint[], $2::text[], $3::text[]) AS v(id, state, reason)
  WHERE s.id = v.id`

/** Within the transaction that holds the locks, after the target has committed. */
export async function settleStatuses(
  client: Client,
  verdicts: readonly (Verdict & { readonly id: number })[],
): Promise<void> {
  if (verdicts.length === 0) return
  await client.query({
    name: 'settle-statuses',
    text: settle,
    values: [
      verdicts.map(({ id }) => id),
      verdicts.map(({ state }) => state),
      verdicts.map(({ reason }) => reason ?? null),
    ],
  })
}

/** Orders with something to apply that nobody rang for, or that has waited long enough. */
export async function dueOrders(ledger: Pool, quietMs: number, limit: number): Promise<string[]> {
  const { rows } = await ledger.query<{ order_id: string }>(
    `SELECT DISTINCT order_id FROM status_inbox
     WHERE (state = 'waiting' AND next_try_at <= clock_timestamp())
        OR (state = 'open' AND received_at <= clock_timestamp() - $1::float8 * interval '1 millisecond')
     LIMIT $2`,
    [quietMs, limit],
  )
  return rows.map((row) => row.order_id)
}
