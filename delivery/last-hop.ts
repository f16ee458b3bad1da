import type { Pool } from '../runtime/postgres.ts'

export interface LastHop {
  /** In words, such as `bridge crm.events (order.price_calculated, forwarded)`. */
  readonly hop: string
  readonly at: Date
}

/** The last thing in our books that saw each of these orders, in one query; an order that nothing of ours saw is absent. */
export async function lastHops(
  ledger: Pool,
  orderIds: readonly string[],
): Promise<Map<string, LastHop>> {
  if (orderIds.length === 0) return new Map()
  const { rows } = await ledger.query<LastHop & { id: string }>(
    `SELECT DISTINCT ON (id) id, hop, at FROM (
       SELECT order_id AS id, hop, coalesce(left_at, at) AS at FROM order_event WHERE order_id = ANY ($1::text[])
       UNION ALL
       SELECT order_id, format('bridge %s (%s, %s)', queue, routing_key, state), coalesce(settled_at, received_at)
       FROM bridge_inbox WHERE order_id = ANY ($1::text[])
       UNION ALL
       SELECT b.order_id, format('status inbox (%s, %s)', coalesce(s.status, 'a price'), s.state), coalesce(s.settled_at, s.received_at)
       FROM bridge_inbox b JOIN status_inbox s USING (id) WHERE b.order_id = ANY ($1::text[])
       UNION ALL
       SELECT order_id, t.hop, t.at FROM order_ledger, LATERAL (VALUES
         ('relay', accepted_at),
         ('courier (sending)', CASE WHEN path = 'direct' THEN sending_at END),
         ('courier (delivered)', CASE WHEN path = 'direct' THEN delivered_at END)) AS t(hop, at)
       WHERE order_id = ANY ($1::text[]) AND t.at IS NOT NULL
     ) seen ORDER BY id, at DESC`,
    [orderIds],
  )
  return new Map(rows.map(({ id, ...seen }) => [id, seen]))
}
