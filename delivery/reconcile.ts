import type { Pool } from '../runtime/postgres.ts'
import { compareOrder } from './compare-order.ts'
import type { Difference } from './difference.ts'
import type { LedgerSide, MailSide, MesSide, ShopSide } from './order-sides.ts'

/** The two legacy sides, whose formats are not ours to know. A side that can't be read throws: then nothing is concluded. */
export interface LegacySides {
  /** Submitted orders in the order of their ids. */
  shopPage(after: string | undefined, limit: number): Promise<readonly ShopSide[]>
  shopOrders(ids: readonly string[]): Promise<readonly ShopSide[]>
  mesOrders(ids: readonly string[]): Promise<ReadonlyMap<string, MesSide>>
  /** Ids in their order, without what came in within the watermark. */
  mesPage(after: string | undefined, limit: number, youngerMs: number): Promise<readonly string[]>
}

interface ReconcileOptions {
  readonly ledger: Pool
  readonly legacy: LegacySides
  /** Whatever changed within it is under way. */
  readonly watermarkMs: number
  readonly pageSize?: number
  /** Called a page at a time, so that nothing has to be kept. */
  onDifferences(differences: readonly Difference[]): Promise<void> | void
}

export interface Reconciled {
  readonly inShop: number
  readonly inLedger: number
  readonly inMes: number
}

/**
 * Compares Shop DB, ledger and MES, order by order. Each side is walked once, a page at a time, and an order is judged in the
 * first walk that meets it: all of the Shop's, then what only the ledger has, then what only the MES has.
 */
export async function reconcile(options: ReconcileOptions): Promise<Reconciled> {
  const { legacy, ledger, watermarkMs } = options
  const limit = options.pageSize ?? 5000
  const report = async (differences: readonly Difference[]): Promise<void> => {
    if (differences.length > 0) await options.onDifferences(differences)
  }

  const inShop = await walk(
    (after) => legacy.shopPage(after, limit),
    (order) => order.orderId,
    limit,
    (orders) =>
      judge(
        options,
        orders.map((order) => order.orderId),
        orders,
      ).then(report),
  )
  const inLedger = await walk(
    (after) => ledgerPage(ledger, after, limit),
    (id) => id,
    limit,
    async (ids) => {
      const known = new Set((await legacy.shopOrders(ids)).map((order) => order.orderId))
      await judge(
        options,
        ids.filter((id) => !known.has(id)),
        [],
      ).then(report)
    },
  )
  const inMes = await walk(
    (after) => legacy.mesPage(after, limit, watermarkMs),
    (id) => id,
    limit,
    async (ids) => {
      const known = await readLedger(ledger, ids)
      const strangers = ids.filter((id) => !known.has(id))
      // Those that the Shop has were judged in the first walk.
      const inShopToo = new Set((await legacy.shopOrders(strangers)).map((order) => order.orderId))
      await judge(
        options,
        strangers.filter((id) => !inShopToo.has(id)),
        [],
      ).then(report)
    },
  )
  return { inShop, inLedger, inMes }
}

async function walk<Item>(
  read: (after: string | undefined) => Promise<readonly Item[]>,
  idOf: (item: Item) => string,
  limit: number,
  work: (page: readonly Item[]) => Promise<void>,
): Promise<number> {
  let count = 0
  let after: string | undefined
  for (;;) {
    const page = await read(after)
    if (page.length > 0) await work(page)
    count += page.length
    if (page.length < limit) return count
    after = idOf(page.at(-1)!)
  }
}

/** The Shop is read before the ledger, and the ledger before the MES: what moves on meanwhile is ahead, and so never missing. */
async function judge(
  { ledger, legacy, watermarkMs }: ReconcileOptions,
  ids: readonly string[],
  shopOrders: readonly ShopSide[],
): Promise<Difference[]> {
  if (ids.length === 0) return []
  const shop = new Map(shopOrders.map((order) => [order.orderId, order]))
  const rows = await readLedger(ledger, ids)
  const mail = await readMail(ledger, ids)
  const mes = await legacy.mesOrders(ids)
  return ids.flatMap((orderId) =>
    compareOrder(
      {
        orderId,
        shop: shop.get(orderId),
        ledger: rows.get(orderId),
        mail: mail.get(orderId) ?? new Map<string, MailSide>(),
        mes: mes.get(orderId),
      },
      watermarkMs,
    ),
  )
}

async function ledgerPage(
  ledger: Pool,
  after: string | undefined,
  limit: number,
): Promise<string[]> {
  const { rows } = await ledger.query<{ id: string }>(
    'SELECT order_id AS id FROM order_ledger WHERE order_id > $1 ORDER BY order_id LIMIT $2',
    [after ?? '', limit],
  )
  return rows.map((row) => row.id)
}

async function readLedger(ledger: Pool, ids: readonly string[]): Promise<Map<string, LedgerSide>> {
  const { rows } = await ledger.query<LedgerSide & { id: string }>(
    `WITH unsettled AS (
       SELECT id, order_id, state, reason, received_at FROM status_inbox WHERE order_id = ANY($1::text[]) AND state IN ('open', 'waiting')
       UNION ALL
       SELECT id, order_id, state, reason, received_at FROM status_inbox WHERE order_id = ANY($1::text[]) AND state = 'parked'),
     waits AS (SELECT DISTINCT ON (order_id) * FROM unsettled ORDER BY order_id, id)
     SELECT l.order_id AS id, l.origin, l.path, l.state, l.gen, l.status_path AS "statusPath",
       CASE WHEN w.id IS NOT NULL THEN json_build_object('id', w.id::text, 'state', w.state, 'reason', w.reason,
         'ageMs', extract(epoch FROM clock_timestamp() - w.received_at) * 1000) END AS "statusWaits",
       (extract(epoch FROM clock_timestamp() - CASE WHEN l.state IN ('accepted', 'sending')
          -- Not since the last try: an order that is tried for ever would never be old.
          THEN greatest(accepted_at, nullif(rung_at, '-infinity'),
            (SELECT max(e.at) FROM order_event e WHERE e.order_id = l.order_id AND e.hop IN ('redrive', 'in doubt')))
          ELSE greatest(accepted_at, nullif(rung_at, '-infinity'), sending_at, doubt_at, delivered_at) END) * 1000)::float8 AS "quietForMs"
     FROM order_ledger l LEFT JOIN waits w ON w.order_id = l.order_id WHERE l.order_id = ANY($1::text[])`,
    [ids],
  )
  return new Map(rows.map(({ id, ...row }) => [id, row]))
}

async function readMail(
  ledger: Pool,
  ids: readonly string[],
): Promise<Map<string, Map<string, MailSide>>> {
  const { rows } = await ledger.query<{ id: string; key: string; state: string; ageMs: number }>(
    `SELECT DISTINCT ON (order_id, routing_key) order_id AS id, routing_key AS key, state,
       (extract(epoch FROM clock_timestamp() - coalesce(settled_at, received_at)) * 1000)::float8 AS "ageMs"
     FROM bridge_inbox WHERE order_id = ANY($1::text[]) ORDER BY order_id, routing_key, state = 'suppressed', id DESC`,
    [ids],
  )
  const mail = new Map<string, Map<string, MailSide>>()
  for (const { id, key, state, ageMs } of rows) {
    const known = mail.get(id) ?? new Map<string, MailSide>()
    mail.set(id, known.set(key, { state, ageMs }))
  }
  return mail
}
