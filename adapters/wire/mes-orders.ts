import type { Pool } from '../../runtime/postgres.ts'

export interface MesOrder {
  /** How many rows of work the MES has for the order: more than one is a duplicate. */
  readonly rows: number
  readonly status: string
  /** Exact decimal text; null until calculated. */
  readonly price: string | null
}

/** What the MES holds of these orders, in one query; an order it does not hold is absent from the map. */
export async function findInMes(
  mes: Pool,
  orderIds: readonly string[],
): Promise<Map<string, MesOrder>> {
  const found = new Map<string, MesOrder>()
  const uuids = orderIds.filter((id) => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id))
  if (uuids.length === 0) return found
  const { rows } = await mes.query<{
    order_id: string
    rows: number
    status: string
    price: string | null
  }>(
    `SELECT order_id::text, count(*)::int AS rows, (array_agg(status ORDER BY id))[1] AS status,
            (array_agg(price ORDER BY id))[1]::text AS price
     FROM public.orders WHERE order_id = ANY($1::uuid[]) GROUP BY order_id`,
    [uuids],
  )
  for (const row of rows)
    found.set(row.order_id, { rows: row.rows, status: row.status, price: row.price })
  return found
}
