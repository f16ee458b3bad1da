import type { Pool } from '../../runtime/postgres.ts'
import type { LoggedWrite } from './pair-crm-writes.ts'

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** The orders of the oldest writes that are not compared. */
export async function ordersWritten(shop: Pool, limit: number): Promise<string[]> {
  const { rows } = await shop.query<{ order_id: string }>({
    name: 'orders-written',
    text: 'SELECT order_id FROM strangler.crm_writes ORDER BY id LIMIT $1',
    values: [limit],
  })
  return [...new Set(rows.map((row) => row.order_id))]
}

/** What CRM wrote to these orders, in the order of its writes; and which of them the Shop has. By index, without a lock. */
export async function readCrmWrites(
  shop: Pool,
  orderIds: readonly string[],
  options: { readonly graceMs: number; readonly perOrder: number },
): Promise<{ writes: Map<string, LoggedWrite[]>; inShop: Set<string> }> {
  const ids = orderIds.filter((id) => uuid.test(id))
  const writes = new Map<string, LoggedWrite[]>()
  if (ids.length === 0) return { writes, inShop: new Set() }
  const { rows } = await shop.query<LoggedWrite & { order_id: string }>({
    name: 'read-crm-writes',
    text: `SELECT w.order_id, w.id, w.status, w.price, w.currency, w.repriced,
             w.at <= clock_timestamp() - $2::float8 * interval '1 millisecond' AS ripe
           FROM unnest($1::uuid[]) o(id) CROSS JOIN LATERAL (
             SELECT * FROM strangler.crm_writes c WHERE c.order_id = o.id ORDER BY c.id LIMIT $3) w
           ORDER BY w.id`,
    values: [ids, options.graceMs, options.perOrder],
  })
  for (const { order_id: orderId, ...write } of rows) {
    const of = writes.get(orderId) ?? []
    writes.set(orderId, of)
    of.push(write)
  }
  const { rows: found } = await shop.query<{ id: string }>({
    name: 'which-in-shop',
    text: 'SELECT id FROM public.orders WHERE id = ANY($1::uuid[])',
    values: [ids],
  })
  return { writes, inShop: new Set(found.map(({ id }) => id)) }
}

export async function deleteCrmWrites(shop: Pool, ids: readonly string[]): Promise<void> {
  if (ids.length === 0) return
  await shop.query({
    name: 'delete-crm-writes',
    text: 'DELETE FROM strangler.crm_writes WHERE id = ANY($1::bigint[])',
    values: [ids],
  })
}
