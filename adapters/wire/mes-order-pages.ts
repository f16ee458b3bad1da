import type { Pool } from '../../runtime/postgres.ts'
import type { MesOrder } from './mes-orders.ts'

export interface MesOrderNow extends MesOrder {
  readonly currency: string | null
  /** Since the last change of any of its rows, on the MES database's clock. */
  readonly quietForMs: number
}

/** What the MES holds of these orders and since when; for comparing, where a change under way is no difference. */
export async function readMesOrders(
  mes: Pool,
  orderIds: readonly string[],
): Promise<Map<string, MesOrderNow>> {
  const uuids = orderIds.filter((id) => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id))
  if (uuids.length === 0) return new Map()
  const { rows } = await mes.query<MesOrderNow & { id: string }>(
    `SELECT order_id::text AS id, count(*)::int AS rows, (array_agg(status ORDER BY id))[1] AS status,
       (array_agg(price ORDER BY id))[1]::text AS price, (array_agg(currency ORDER BY id))[1] AS currency,
       (extract(epoch FROM clock_timestamp() - max(updated_at)) * 1000)::float8 AS "quietForMs"
     FROM public.orders WHERE order_id = ANY($1::uuid[]) GROUP BY order_id`,
    [uuids],
  )
  return new Map(rows.map(({ id, ...order }) => [id, order]))
}

/** A page of the ids of the orders that the MES works on, in their order, without those that came in within `youngerMs`. */
export async function readMesOrderIds(
  mes: Pool,
  page: { readonly after: string | undefined; readonly limit: number; readonly youngerMs: number },
): Promise<string[]> {
  const { rows } = await mes.query<{ id: string }>(
    `SELECT order_id::text AS id FROM public.orders
     WHERE order_id > $1::uuid AND received_at < clock_timestamp() - $3::float8 * interval '1 ms'
     GROUP BY order_id ORDER BY order_id LIMIT $2`,
    [page.after ?? '00000000-0000-0000-0000-000000000000', page.limit, page.youngerMs],
  )
  return rows.map((row) => row.id)
}
