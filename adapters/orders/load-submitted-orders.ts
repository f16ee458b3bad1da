import type { Path } from '../../contracts/order.ts'
import type { AcceptedOrder } from '../../delivery/accept-orders.ts'
import type { Client, Pool } from '../../runtime/postgres.ts'
import { orderSubmittedBody, orderSubmittedKey } from '../wire/order-submitted.ts'
import type { SubmittedOrder } from '../wire/order-submitted.ts'

/** A row of the Shop's outbox, ready for the ledger. */
export interface OutboxOrder extends AcceptedOrder {
  readonly outboxId: string
}

/** A row that no message can be made of: nothing but its order and the decision is certain. */
export interface UnreadableOrder {
  readonly outboxId: string
  readonly orderId: string
  readonly path: Path
  readonly pathEpoch: number
  readonly pathReason: unknown
  readonly ageMs: number
  /** What is wrong with it. */
  readonly unreadable: string
}

export interface OutboxRows {
  readonly readable: OutboxOrder[]
  readonly unreadable: UnreadableOrder[]
}

/** Everything out of the captured row is text as it stands there: a cast in the query would fail the whole batch. */
interface OutboxRow {
  id: string
  order_id: string
  path: Path
  epoch: number
  reason: unknown
  age_ms: number
  source: string | null
  client_id: string | null
  loyalty_points: string | null
  material: string | null
  quantity: string | null
  comment: string | null
  model_key: string | null
  model_sha256: string | null
  model_bytes: string | null
}

// The client is joined here, once per batch: CRM asks for it once per order.
const columns = `
  o.id, o.order_id, o.path, o.epoch, o.reason, extract(epoch FROM clock_timestamp() - o.at)::float8 * 1000 AS age_ms,
  o.row ->> 'source' AS source, o.row ->> 'client_id' AS client_id, c.loyalty_points, o.row ->> 'material' AS material,
  o.row ->> 'quantity' AS quantity, o.row ->> 'comment' AS comment, o.row ->> 'model_key' AS model_key,
  o.row ->> 'model_sha256' AS model_sha256, o.row ->> 'model_bytes' AS model_bytes
  FROM strangler.outbox o LEFT JOIN public.clients c
    ON c.id = CASE WHEN o.row ->> 'client_id' ~ '^[0-9]{1,18}$' THEN (o.row ->> 'client_id')::bigint END`

/** The next rows to relay, locked for this transaction so that two relays never take the same ones. */
export async function takeUnrelayed(shop: Client, limit: number): Promise<OutboxRows> {
  const { rows } = await shop.query<OutboxRow>({
    name: 'take-unrelayed',
    text: `SELECT ${columns} WHERE o.relayed_at IS NULL ORDER BY o.id LIMIT $1 FOR UPDATE OF o SKIP LOCKED`,
    values: [limit],
  })
  return readRows(rows)
}

/** The outbox rows of these orders, relayed or not; an order that was submitted before the trigger has none. */
export async function loadSubmittedOrders(
  shop: Pool,
  orderIds: readonly string[],
): Promise<OutboxRows> {
  const uuids = orderIds.filter((id) => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id))
  if (uuids.length === 0) return { readable: [], unreadable: [] }
  const { rows } = await shop.query<OutboxRow>({
    text: `SELECT ${columns} WHERE o.order_id = ANY($1::uuid[])`,
    values: [uuids],
  })
  return readRows(rows)
}

/**
 * Gives each its ledger row, on the path that was decided, but dead from the first: a person must look. Returns the trace
 * contexts of those that were new and had one.
 */
export async function buryUnreadable(
  ledger: Pool | Client,
  orders: readonly UnreadableOrder[],
): Promise<Map<string, string>> {
  if (orders.length === 0) return new Map()
  const { rows } = await ledger.query<{ order_id: string; traceparent: string | null }>(
    `INSERT INTO order_ledger (order_id, origin, source_ref, path, path_epoch, path_reason, state, dead_reason, routing_key, body, body_sha256, submitted_at, traceparent)
     SELECT i.order_id, 'shop', i.order_id, i.path, i.path_epoch, i.path_reason, 'dead', i.dead_reason, $7, ''::bytea, sha256(''::bytea),
            clock_timestamp() - i.age_ms * interval '1 millisecond',
            (SELECT t.traceparent FROM submit_trace t WHERE t.order_id = i.order_id)
     FROM unnest($1::text[], $2::text[], $3::int[], $4::jsonb[], $5::jsonb[], $6::float8[])
       AS i(order_id, path, path_epoch, path_reason, dead_reason, age_ms)
     ON CONFLICT DO NOTHING RETURNING order_id, traceparent`,
    [
      orders.map((order) => order.orderId),
      orders.map((order) => order.path),
      orders.map((order) => order.pathEpoch),
      orders.map((order) => JSON.stringify(order.pathReason ?? {})),
      orders.map((order) =>
        JSON.stringify({ code: 'malformed_message', detail: order.unreadable }),
      ),
      orders.map((order) => order.ageMs),
      orderSubmittedKey,
    ],
  )
  return new Map(
    rows.flatMap(({ order_id: orderId, traceparent }) =>
      traceparent === null ? [] : [[orderId, traceparent]],
    ),
  )
}

/** Row by row: one that can't be read says so and spoils no other. */
function readRows(rows: readonly OutboxRow[]): OutboxRows {
  const readable: OutboxOrder[] = []
  const unreadable: UnreadableOrder[] = []
  for (const row of rows) {
    const decided = {
      outboxId: row.id,
      orderId: row.order_id,
      path: row.path,
      pathEpoch: row.epoch,
      pathReason: row.reason,
      ageMs: Number.isFinite(row.age_ms) ? row.age_ms : 0,
    }
    const order = readOrder(row)
    if (typeof order === 'string') {
      unreadable.push({ ...decided, unreadable: order })
      continue
    }
    readable.push({
      ...decided,
      origin: 'shop',
      sourceRef: row.order_id,
      routingKey: orderSubmittedKey,
      body: orderSubmittedBody(order, new Date()),
      modelSha256: Buffer.from(order.modelSha256, 'hex'),
    })
  }
  return { readable, unreadable }
}

/** The order, or which of its columns can't be read. */
function readOrder(row: OutboxRow): SubmittedOrder | string {
  const clientId = row.client_id === null ? null : wholeNumber(row.client_id)
  const quantity = wholeNumber(row.quantity)
  const modelBytes = wholeNumber(row.model_bytes)
  const { source, material, model_key: modelKey, model_sha256: modelSha256 } = row
  if (
    source === null ||
    clientId === undefined ||
    material === null ||
    quantity === undefined ||
    modelKey === null ||
    modelSha256 === null ||
    modelBytes === undefined
  ) {
    const bad = Object.entries({
      source: source === null,
      client_id: clientId === undefined,
      material: material === null,
      quantity: quantity === undefined,
      model_key: modelKey === null,
      model_sha256: modelSha256 === null,
      model_bytes: modelBytes === undefined,
    }).flatMap(([column, isBad]) => (isBad ? [column] : []))
    return `the captured row has no readable ${bad.join(', ')}`
  }
  return {
    orderId: row.order_id,
    source,
    clientId,
    loyaltyPoints: row.loyalty_points,
    material,
    quantity,
    comment: row.comment,
    modelKey,
    modelSha256,
    modelBytes,
  }
}

function wholeNumber(text: string | null): number | undefined {
  if (text === null || text.trim() === '') return undefined
  const number = Number(text)
  return Number.isSafeInteger(number) ? number : undefined
}
