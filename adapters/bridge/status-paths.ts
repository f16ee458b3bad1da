import type { Path } from '../../contracts/order.ts'
import { repinPhase } from '../../delivery/repin-statuses.ts'
import { inTransaction } from '../../runtime/postgres.ts'
import type { Client, Pool } from '../../runtime/postgres.ts'
import { statusKeys } from '../wire/mes-event.ts'
import type { KnownOrder } from './order-paths.ts'

/** Of the orders that the ledger knows: the path of their statuses, null where none has come yet. */
export async function readStatusPaths(
  ledger: Pool | Client,
  orderIds: readonly string[],
): Promise<Map<string, KnownOrder<Path | null>>> {
  if (orderIds.length === 0) return new Map()
  const { rows } = await ledger.query<KnownOrder<Path | null>>({
    name: 'status-paths',
    text: `SELECT order_id AS "orderId", status_path AS path, gen, traceparent, origin <> 'shop' AS "ofPartner"
           FROM order_ledger WHERE order_id = ANY($1::text[])`,
    values: [orderIds],
  })
  return new Map(rows.map((row) => [row.orderId, row]))
}

/** The way of a status, as it is in a transaction that shares the pins. */
export interface StatusWay {
  readonly path: Path | null
  /** An earlier status of the order is held, or the Shop DB does not let CRM write to it yet: what comes now waits behind. */
  readonly behind: boolean
}

const ways = `
  SELECT l.order_id AS "orderId", l.status_path AS path,
    EXISTS (SELECT FROM bridge_inbox b WHERE b.queue || '' = $2 AND b.order_id = l.order_id AND b.routing_key = ANY($3::text[]) AND b.state = 'held')
      OR EXISTS (SELECT FROM handover h WHERE h.order_id = l.order_id AND h.finished_at IS NULL AND h.phase = '${repinPhase}') AS behind
  FROM order_ledger l WHERE l.order_id = ANY($1::text[])`

/** Of the orders that the ledger knows. */
export async function readStatusWays(
  client: Client,
  queue: string,
  orderIds: readonly string[],
): Promise<Map<string, StatusWay>> {
  const { rows } = await client.query<StatusWay & { orderId: string }>({
    name: 'status-ways',
    text: ways,
    values: [orderIds, queue, statusKeys],
  })
  return new Map(rows.map(({ orderId, ...way }) => [orderId, way]))
}

// Statements in one transaction, because those after the first must see the route as it is after the transaction has its id: a
// flip is complete once every id from before it is gone (flags/flip-complete.ts). In a counted step tokens are locked for all of
// the orders, and those that are needed spent; the orders have them in the order in which their statuses came.
const lockTokens = `
  SELECT f.n FROM strangler.route_token f JOIN strangler.route r ON r.phase = f.phase AND r.epoch = f.epoch AND r.counted
  WHERE f.phase = 'statuses-direct' ORDER BY f.n LIMIT $1 FOR UPDATE OF f`
const spendTokens = `DELETE FROM strangler.route_token WHERE phase = 'statuses-direct' AND n = ANY($1::int[])`

// Each order is looked up and locked by its key, and has its bucket computed once: OFFSET 0, MATERIALIZED, and no second look at
// what is undecided, which the planner would take for one row of the whole table.
const pin = `
  WITH open AS MATERIALIZED (
    SELECT w.order_id, w.n, r.epoch, r.share, b.bucket, begun, NOT begun AND coalesce(b.bucket < r.share, false) AS by_share
    FROM unnest($1::text[]) WITH ORDINALITY AS w(order_id, n)
    CROSS JOIN LATERAL (SELECT FROM order_ledger o WHERE o.order_id = w.order_id AND o.status_path IS NULL FOR NO KEY UPDATE) o
    LEFT JOIN strangler.route r ON r.phase = 'statuses-direct'
    CROSS JOIN LATERAL (SELECT strangler.bucket(w.order_id, r.seed) AS bucket OFFSET 0) b
    CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM bridge_inbox i WHERE i.order_id = w.order_id
      AND i.routing_key = ANY($2::text[]) AND i.state IN ('forwarded', 'held', 'parked')) AS begun OFFSET 0) e),
  decided AS (
    SELECT o.*, NOT begun AND NOT by_share
      AND row_number() OVER (PARTITION BY NOT begun AND NOT by_share ORDER BY n) <= $3::int AS by_token FROM open o)
  UPDATE order_ledger l SET status_epoch = coalesce(d.epoch, 0),
    status_path = CASE WHEN by_share OR by_token THEN 'direct' ELSE 'legacy' END,
    status_reason = jsonb_build_object('share', d.share, 'bucket', d.bucket, 'rule',
      CASE WHEN begun THEN 'CRM had statuses of it before' WHEN d.epoch IS NULL THEN 'no route' WHEN by_token THEN 'token' ELSE 'share' END)
  FROM decided d
  WHERE l.order_id = d.order_id
  RETURNING l.order_id, l.status_path, by_token`

/**
 * The path of the statuses of these orders, decided now; only a recorded repin changes it. An order that CRM has had statuses of stays with CRM. One
 * that somebody else has decided meanwhile, as another bridge does when this one was frozen, has the path that is stored.
 */
export function pinStatusPaths(
  ledger: Pool,
  orderIds: readonly string[],
): Promise<Map<string, Path>> {
  return inTransaction(ledger, async (client) => {
    await client.query('SELECT pg_current_xact_id()')
    const tokens = await client.query<{ n: number }>({
      name: 'lock-tokens',
      text: lockTokens,
      values: [orderIds.length],
    })
    const { rows } = await client.query<{
      order_id: string
      status_path: Path
      by_token?: boolean
    }>({
      name: 'pin-status-paths',
      text: pin,
      values: [orderIds, statusKeys, tokens.rows.length],
    })
    const taken = rows.filter((row) => row.by_token === true).length
    if (taken > 0) await client.query(spendTokens, [tokens.rows.slice(0, taken).map(({ n }) => n)])
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
