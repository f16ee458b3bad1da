import type { Excluding, Tallied, Tally } from '../../delivery/reconcile-window.ts'
import type { Pool } from '../../runtime/postgres.ts'

/*
 * What is settled in Shop and MES, as sums per bucket, and what is not, as ids. The window of the Shop is the time of submit;
 * the MES only knows when an order came in, so that the edges differ: what lies between them is judged one by one.
 */

const since = (column: string): string =>
  `${column} >= clock_timestamp() - $1::float8 * interval '1 millisecond'`

/** Orders of our capture; and partner orders, which CRM wrote. What was submitted before our capture is none of ours. */
const closedInShop = `
  SELECT o.id, o.price FROM strangler.outbox b JOIN public.orders o ON o.id = b.order_id
  WHERE ${since('b.at')} AND o.status = 'CLOSED' AND o.id <> ALL ($2::uuid[])
  UNION ALL
  SELECT o.id, o.price FROM public.orders o
  WHERE ${since('o.created_at')} AND o.source <> 'shop' AND o.status = 'CLOSED' AND o.id <> ALL ($2::uuid[])`

const closedInMes = `
  SELECT o.order_id AS id, o.price FROM public.orders o
  WHERE ${since('o.received_at')} AND o.status = 'CLOSED' AND o.order_id <> ALL ($2::uuid[])`

const sums = `right(id::text, 3) AS bucket, count(*)::int AS orders, sum(hashtextextended(id::text, 0))::text AS ids,
  sum(hashtextextended(id::text || ' ' || coalesce(price::text, ''), 0))::text AS prices`

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

async function tally(pool: Pool, from: string, { windowMs, except }: Excluding): Promise<Tally[]> {
  const { rows } = await pool.query<Tally>(`SELECT ${sums} FROM (${from}) o GROUP BY 1`, [
    windowMs,
    except.filter((id) => uuid.test(id)),
  ])
  return rows
}

async function listed(
  pool: Pool,
  from: string,
  { windowMs, except }: Excluding,
  buckets: readonly string[],
): Promise<Tallied[]> {
  const { rows } = await pool.query<Tallied>(
    `SELECT id::text AS "orderId", price::text AS price FROM (${from}) o WHERE right(id::text, 3) = ANY ($3::text[])`,
    [windowMs, except.filter((id) => uuid.test(id)), buckets],
  )
  return rows
}

export function shopTally(shop: Pool, of: Excluding): Promise<Tally[]> {
  return tally(shop, closedInShop, of)
}

export function shopClosed(
  shop: Pool,
  of: Excluding,
  buckets: readonly string[],
): Promise<Tallied[]> {
  return listed(shop, closedInShop, of, buckets)
}

export function mesTally(mes: Pool, of: Excluding): Promise<Tally[]> {
  return tally(mes, closedInMes, of)
}

export function mesClosed(
  mes: Pool,
  of: Excluding,
  buckets: readonly string[],
): Promise<Tallied[]> {
  return listed(mes, closedInMes, of, buckets)
}

const work = `('SUBMITTED', 'PRICE_CALCULATED', 'MANUFACTURING_APPROVED', 'MANUFACTURING_STARTED', 'MANUFACTURING_COMPLETED', 'PACKAGING', 'SHIPPED')`

export async function openInShop(shop: Pool): Promise<string[]> {
  const { rows } = await shop.query<{ id: string }>(
    `SELECT id::text FROM public.orders WHERE status IN ${work}`,
  )
  return rows.map(({ id }) => id)
}

/** Without what came in within `youngerMs`. */
export async function openInMes(mes: Pool, youngerMs: number): Promise<string[]> {
  const { rows } = await mes.query<{ id: string }>(
    `SELECT DISTINCT order_id::text AS id FROM public.orders
     WHERE status IN ${work} AND received_at < clock_timestamp() - $1::float8 * interval '1 ms'`,
    [youngerMs],
  )
  return rows.map(({ id }) => id)
}

const latest = 50

/** Since the MES took in its latest order, in milliseconds on its clock (Infinity: it has none), and its latest orders. */
export async function mesTookLast(
  mes: Pool,
): Promise<{ tookLastMs: number; tookLastIds: readonly string[] }> {
  const { rows } = await mes.query<{ id: string; age: number }>(
    `SELECT order_id::text AS id, (extract(epoch FROM clock_timestamp() - received_at) * 1000)::float8 AS age
     FROM public.orders ORDER BY orders.id DESC LIMIT $1`,
    [latest],
  )
  return { tookLastMs: rows[0]?.age ?? Infinity, tookLastIds: rows.map(({ id }) => id) }
}
