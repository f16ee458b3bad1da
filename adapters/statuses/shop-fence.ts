import type { Path } from '../../contracts/order.ts'
import type { OrderStatusRow } from '../../contracts/status-rules.ts'
import type { UnfinishedRepin } from '../../delivery/repin-statuses.ts'
import { inTransaction, type Pool } from '../../runtime/postgres.ts'
import { type StatusColumns, statusColumns, statusRowsById } from './shop-status-row.ts'

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

/**
 * The Shop's part of a repin: the fence of these orders is lowered (legacy) or raised (direct), also where none was. A fence of the
 * same or a later epoch stays as it is, so a repetition changes nothing. An applier that is just writing is waited for, and what
 * the rows then say is returned.
 */
export async function moveFences(
  shop: Pool,
  records: readonly UnfinishedRepin[],
): Promise<Map<string, OrderStatusRow>> {
  const wanted = records.filter(({ orderId }) => uuid.test(orderId))
  if (wanted.length === 0) return new Map()
  await inTransaction(shop, async (client) => {
    await client.query(
      `SET LOCAL lock_timeout = '10s'; SET LOCAL idle_in_transaction_session_timeout = '5s'`,
    )
    await client.query(
      `INSERT INTO strangler.order_fence AS f (order_id, epoch, path, applied_id)
       SELECT order_id, epoch, path, 0 FROM unnest($1::uuid[], $2::int[], $3::text[]) AS v(order_id, epoch, path) ORDER BY order_id
       ON CONFLICT (order_id) DO UPDATE SET path = excluded.path, epoch = excluded.epoch WHERE f.epoch < excluded.epoch`,
      [
        wanted.map(({ orderId }) => orderId),
        wanted.map(({ epoch }) => epoch),
        wanted.map(({ to }) => to satisfies Path),
      ],
    )
  })
  return readRows(
    shop,
    wanted.map(({ orderId }) => orderId),
  )
}

async function readRows(
  shop: Pool,
  orderIds: readonly string[],
): Promise<Map<string, OrderStatusRow>> {
  const { rows } = await shop.query<StatusColumns>(
    `SELECT ${statusColumns}
     FROM public.orders o JOIN strangler.order_fence f ON f.order_id = o.id WHERE o.id = ANY($1::uuid[])`,
    [orderIds],
  )
  return statusRowsById(rows)
}
