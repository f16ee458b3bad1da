import type { Pool } from '../runtime/postgres.ts'
import type { LedgerSide, MailSide, MesSide, OrderSides, ShopSide } from './order-sides.ts'

/**
 * What every side has of these orders now. The Shop is read before, then the ledger, then the MES: what moves on meanwhile is
 * ahead, and so never missing.
 */
export async function readSides(
  from: {
    readonly ledger: Pool
    readonly legacy: { mesOrders(ids: readonly string[]): Promise<ReadonlyMap<string, MesSide>> }
  },
  ids: readonly string[],
  shopOrders: readonly ShopSide[],
): Promise<OrderSides[]> {
  if (ids.length === 0) return []
  const shop = new Map(shopOrders.map((order) => [order.orderId, order]))
  const rows = await readLedger(from.ledger, ids)
  const mail = await readMail(from.ledger, ids)
  const mes = await from.legacy.mesOrders(ids)
  return ids.map((orderId) => ({
    orderId,
    shop: shop.get(orderId),
    ledger: rows.get(orderId),
    mail: mail.get(orderId) ?? new Map<string, MailSide>(),
    mes: mes.get(orderId),
  }))
}

export async function readLedger(
  ledger: Pool,
  ids: readonly string[],
): Promise<Map<string, LedgerSide>> {
  const { rows } = await ledger.query<LedgerSide & { id: string }>(
    `WITH unsettled AS (
       SELECT id, order_id, state, reason, received_at FROM status_inbox WHERE order_id = ANY($1::text[]) AND state IN ('open', 'waiting')
       UNION ALL
       SELECT id, order_id, state, reason, received_at FROM status_inbox WHERE order_id = ANY($1::text[]) AND state = 'parked'
       UNION ALL
       SELECT s.id, s.order_id, s.state, 'repin unfinished', s.received_at FROM handover h JOIN status_inbox s ON s.order_id = h.order_id
       WHERE h.order_id = ANY($1::text[]) AND h.finished_at IS NULL AND s.state = 'handed over'),
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
