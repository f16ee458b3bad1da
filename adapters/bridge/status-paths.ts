import type { Path } from '../../contracts/order.ts'
import { inTransaction } from '../../runtime/postgres.ts'
import type { Pool } from '../../runtime/postgres.ts'
import { statusKeys } from '../wire/mes-event.ts'

/** Of the orders that the ledger knows: the path of their statuses, null where none has come yet. */
export async function readStatusPaths(
  ledger: Pool,
  orderIds: readonly string[],
): Promise<Map<string, Path | null>> {
  if (orderIds.length === 0) return new Map()
  const { rows } = await ledger.query<{ order_id: string; status_path: Path | null }>({
    name: 'status-paths',
    text: 'SELECT order_id, status_path FROM order_ledger WHERE order_id = ANY($1::text[])',
    values: [orderIds],
  })
  return new Map(rows.map((row) => [row.order_id, row.status_path]))
}

// Two statements in one transaction, because the second must see the route as it is after the transaction has its id: a flip
// is complete once every id from before it is gone (flags/flip-complete.ts).
const pin = `
  UPDATE order_ledger l SET status_epoch = d.epoch, status_path = d.path,
    status_reason = jsonb_build_object('rule', d.rule, 'share', d.share, 'bucket', d.bucket)
  FROM (
    SELECT w.order_id, coalesce(r.epoch, 0) AS epoch, r.share, b.bucket,
      CASE WHEN begun THEN 'CRM had statuses of it before' WHEN r.epoch IS NULL THEN 'no route' ELSE 'share' END AS rule,
      CASE WHEN NOT begun AND b.bucket < r.share THEN 'direct' ELSE 'legacy' END AS path
    FROM unnest($1::text[]) AS w(order_id)
    LEFT JOIN strangler.route r ON r.phase = 'statuses-direct'
    CROSS JOIN LATERAL (SELECT strangler.bucket(w.order_id, r.seed) AS bucket) b
    CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM bridge_inbox i WHERE i.order_id = w.order_id
      AND i.routing_key = ANY($2::text[]) AND i.state IN ('forwarded', 'held', 'parked')) AS begun OFFSET 0) e) d
  WHERE l.order_id = d.order_id AND l.status_path IS NULL
  RETURNING l.order_id, l.status_path`

/**
 * The path of the statuses of these orders, decided now and for ever. An order that CRM has had statuses of stays with CRM. One
 * that somebody else has decided meanwhile, as another bridge does when this one was frozen, has the path that is stored.
 */
export function pinStatusPaths(
  ledger: Pool,
  orderIds: readonly string[],
): Promise<Map<string, Path>> {
  return inTransaction(ledger, async (client) => {
    await client.query('SELECT pg_current_xact_id()')
    const { rows } = await client.query<{ order_id: string; status_path: Path }>({
      name: 'pin-status-paths',
      text: pin,
      values: [orderIds, statusKeys],
    })
    if (rows.length < orderIds.length) {
      const { rows: decided } = await client.query<{ order_id: string; status_path: Path }>({
        name: 'pinned-status-paths',
        text: 'SELECT order_id, status_path FROM order_ledger WHERE order_id = ANY($1::text[]) AND status_path IS NOT NULL',
        values: [orderIds],
      })
      rows.push(...decided)
    }
    return new Map(rows.map((row) => [row.order_id, row.status_path]))
  })
}
