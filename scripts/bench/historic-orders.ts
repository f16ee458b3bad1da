import type { Estate } from '../../estate/estate.ts'
import { withClient } from '../../estate/postgres-server.ts'

/**
 * Orders that went their way long ago, in every table that an order leaves a row in. Made by the servers, without triggers, and
 * left as years leave them: vacuumed and on disk, so that no autovacuum and no checkpoint of them runs while something is measured.
 */
export async function addHistoricOrders(estate: Estate, count: number): Promise<void> {
  const id = `('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))`
  await withClient(estate.databases.shop, async (client) => {
    await client.query('SET session_replication_role = replica')
    await client.query(
      `INSERT INTO orders (id, status, material, quantity, price, currency, crm_sent_at, created_at, updated_at)
       SELECT ${id}::uuid, 'CLOSED', 'PLA', 1, 12.30, 'EUR', now(), now() - n * interval '1 s', now() - n * interval '1 s' FROM generate_series(1, $1::int) n`,
      [count],
    )
    await client.query(
      `INSERT INTO strangler.order_fence (order_id, epoch, applied_id, price_id) SELECT ${id}::uuid, 1, 1, 1 FROM generate_series(1, $1::int) n`,
      [count],
    )
    await client.query('VACUUM (ANALYZE)')
  })
  await withClient(estate.databases.ledger, async (client) => {
    await client.query(
      `INSERT INTO order_ledger (order_id, origin, source_ref, path, path_epoch, path_reason, state, routing_key, body, body_sha256,
         submitted_at, accepted_at, delivered_at, status_path, status_epoch)
       SELECT ${id}, 'shop', ${id}, 'direct', 1, '{}', 'delivered', 'order.submitted', repeat('x', 300)::bytea, sha256(''::bytea),
         t, t, t, 'direct', 1 FROM generate_series(1, $1::int) n, LATERAL (SELECT now() - n * interval '1 s' AS t) c`,
      [count],
    )
    await client.query(
      `WITH message AS (
         INSERT INTO bridge_inbox (queue, msg_key, order_id, routing_key, exchange, status, state, body, properties, redelivered, received_at, settled_at)
         SELECT 'crm.events', sha256(n::text::bytea), ${id}, 'order.status_changed', 'mes.events', 'SHIPPED', 'diverted', repeat('x', 150)::bytea, '{}', false, t, t
         FROM generate_series(1, $1::int) n, LATERAL (SELECT now() - n * interval '1 s' AS t) c
         RETURNING id, order_id, status, received_at)
       INSERT INTO status_inbox (id, order_id, status, received_at, state, settled_at)
       SELECT id, order_id, status, received_at, 'applied', received_at FROM message`,
      [count],
    )
    await client.query('VACUUM (ANALYZE)')
  })
  await withClient(estate.databases.shop, (client) => client.query('CHECKPOINT'))
}
