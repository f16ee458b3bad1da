import type { Judged, OrderStatusRow } from '../../contracts/status-rules.ts'
import type { Applied, PendingStatuses, StatusTarget } from '../../delivery/status-target.ts'
import { failpoint } from '../../runtime/failpoint.ts'
import { type Client, inTransaction, type Pool } from '../../runtime/postgres.ts'
import { type StatusColumns, statusColumns, statusRowsById } from './shop-status-row.ts'

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

/**
 * The Shop DB. A row that a seller or a customer holds is passed over, so that one open transaction of theirs keeps no other
 * order waiting. The fence is written with the first status, in the same transaction: from then on CRM's late writes do not stick.
 * It is written before the row: under a fence of a later epoch this applier is one of the past, and nothing is written.
 */
export function shopStatusTarget(shop: Pool): StatusTarget {
  return {
    apply: (orders, judge) =>
      inTransaction(shop, async (client) => {
        const rows = await lockOrders(client, orders)
        const applied = new Map<string, Applied>()
        const judged = orders.flatMap((order) => {
          const row = rows.get(order.orderId)
          return row === undefined ? [] : [{ order, judged: judge(row, order.events) }]
        })
        const raised = await raiseFences(client, judged)
        await writeOrders(
          client,
          judged.filter(({ order: { orderId } }) => raised.has(orderId)),
        )
        failpoint('applier.updated')
        for (const { order, judged: verdict } of judged) {
          applied.set(
            order.orderId,
            raised.has(order.orderId) ? { as: 'judged', judged: verdict } : { as: 'repinned' },
          )
        }
        const missing = orders.filter(({ orderId }) => !rows.has(orderId))
        const held = await whichExist(client, missing)
        for (const { orderId } of missing)
          applied.set(orderId, { as: held.has(orderId) ? 'busy' : 'absent' })
        return applied
      }),
  }
}

async function lockOrders(
  client: Client,
  orders: readonly PendingStatuses[],
): Promise<Map<string, OrderStatusRow>> {
  const { rows } = await client.query<StatusColumns>({
    name: 'lock-orders',
    text: `SELECT ${statusColumns}
           FROM public.orders o LEFT JOIN strangler.order_fence f ON f.order_id = o.id
           WHERE o.id = ANY($1::uuid[]) FOR NO KEY UPDATE OF o SKIP LOCKED`,
    values: [idsOf(orders)],
  })
  return statusRowsById(rows)
}

async function writeOrders(
  client: Client,
  judged: readonly { order: PendingStatuses; judged: Judged }[],
): Promise<void> {
  const writes = judged.flatMap(({ order: { orderId }, judged: { write } }) =>
    write === undefined ? [] : [{ orderId, ...write }],
  )
  if (writes.length === 0) return
  await client.query({
    name: 'write-orders',
    text: `UPDATE public.orders o SET status = w.status, price = w.price, currency = w.currency, updated_at = now()
           FROM unnest($1::uuid[], $2::text[], $3::numeric[], $4::text[]) AS w(id, status, price, currency) WHERE o.id = w.id`,
    values: [
      writes.map(({ orderId }) => orderId),
      writes.map(({ status }) => status),
      writes.map(({ price }) => price),
      writes.map(({ currency }) => currency),
    ],
  })
}

/** Also where nothing of it could be written yet: the order is ours from its first event on. Returns those that are ours. */
async function raiseFences(
  client: Client,
  judged: readonly { order: PendingStatuses; judged: Judged }[],
): Promise<Set<string>> {
  if (judged.length === 0) return new Set()
  const { rows } = await client.query<{ id: string }>({
    name: 'raise-fences',
    text: `INSERT INTO strangler.order_fence AS f (order_id, epoch, applied_id, price_id, accepted_ids)
           SELECT order_id, epoch, applied_id, price_id, accepted_ids::bigint[]
           FROM unnest($1::uuid[], $2::int[], $3::bigint[], $4::bigint[], $5::text[]) AS v(order_id, epoch, applied_id, price_id, accepted_ids)
           ON CONFLICT (order_id) DO UPDATE SET path = 'direct', epoch = excluded.epoch,
             applied_id = greatest(f.applied_id, excluded.applied_id), price_id = greatest(f.price_id, excluded.price_id),
             accepted_ids = f.accepted_ids || excluded.accepted_ids
           WHERE f.epoch < excluded.epoch OR (f.epoch = excluded.epoch AND f.path = 'direct')
           RETURNING order_id::text AS id`,
    values: [
      judged.map(({ order: { orderId } }) => orderId),
      judged.map(({ order: { epoch } }) => epoch),
      judged.map(({ judged: { verdicts } }) => appliedUpTo(verdicts)),
      judged.map(({ judged: { priceId } }) => (priceId === 0 ? null : priceId)),
      judged.map(({ judged: { acceptedIds } }) => `{${acceptedIds.join(',')}}`),
    ],
  })
  return new Set(rows.map(({ id }) => id))
}

function appliedUpTo(verdicts: Judged['verdicts']): number {
  let last = 0
  for (const [id, { state }] of verdicts) {
    if (state !== 'waiting' && state !== 'parked') last = Math.max(last, id)
  }
  return last
}

async function whichExist(
  client: Client,
  orders: readonly PendingStatuses[],
): Promise<Set<string>> {
  const ids = idsOf(orders)
  if (ids.length === 0) return new Set()
  const { rows } = await client.query<{ id: string }>(
    'SELECT id::text FROM public.orders WHERE id = ANY($1::uuid[])',
    [ids],
  )
  return new Set(rows.map(({ id }) => id))
}

/** An id that the Shop could not have given is simply not there. */
function idsOf(orders: readonly PendingStatuses[]): string[] {
  return orders.flatMap(({ orderId }) => (uuid.test(orderId) ? [orderId] : []))
}
