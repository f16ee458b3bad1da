import { createHash } from 'node:crypto'

import type { OrderIdentity } from '../contracts/order-trace.ts'
import type { Path } from '../contracts/order.ts'
import type { Client, Pool } from '../runtime/postgres.ts'

/** An order as its source's outbox hands it over. From the insert on, the ledger row is the truth of its transport. */
export interface AcceptedOrder {
  readonly orderId: string
  /** `shop` or `partner:<id>`; with `sourceRef` unique for ever. */
  readonly origin: string
  readonly sourceRef: string
  readonly path: Path
  readonly pathEpoch: number
  readonly pathReason: unknown
  readonly routingKey: string
  /** The message the MES will get, as bytes. */
  readonly body: Buffer
  readonly modelSha256?: Buffer
  /** Milliseconds since the source committed the order, measured on the source's own clock. */
  readonly ageMs: number
}

export interface LedgerEntry extends OrderIdentity {
  readonly path: Path
}

const insert = `
  INSERT INTO order_ledger (order_id, origin, source_ref, path, path_epoch, path_reason, state, routing_key, body, body_sha256, model_sha256, submitted_at, traceparent)
  SELECT i.order_id, i.origin, i.source_ref, i.path, i.path_epoch, i.path_reason, 'accepted', i.routing_key, i.body, i.body_sha256, i.model_sha256,
         clock_timestamp() - i.age_ms * interval '1 millisecond',
         (SELECT t.traceparent FROM submit_trace t WHERE t.order_id = i.order_id)
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::jsonb[], $7::text[], $8::bytea[], $9::bytea[], $10::bytea[], $11::float8[])
    AS i(order_id, origin, source_ref, path, path_epoch, path_reason, routing_key, body, body_sha256, model_sha256, age_ms)
  ON CONFLICT DO NOTHING
  RETURNING order_id, path, gen, traceparent`

/** Inserts what the ledger does not know yet, in one statement, and returns just those. Repeating it changes nothing. */
export async function acceptOrders(
  ledger: Pool | Client,
  orders: readonly AcceptedOrder[],
): Promise<LedgerEntry[]> {
  if (orders.length === 0) return []
  const { rows } = await ledger.query<{
    order_id: string
    path: Path
    gen: number
    traceparent: string | null
  }>({
    name: 'accept-orders',
    text: insert,
    values: [
      orders.map((order) => order.orderId),
      orders.map((order) => order.origin),
      orders.map((order) => order.sourceRef),
      orders.map((order) => order.path),
      orders.map((order) => order.pathEpoch),
      orders.map((order) => JSON.stringify(order.pathReason ?? {})),
      orders.map((order) => order.routingKey),
      orders.map((order) => order.body),
      orders.map((order) => createHash('sha256').update(order.body).digest()),
      orders.map((order) => order.modelSha256 ?? null),
      orders.map((order) => order.ageMs),
    ],
  })
  return rows.map(({ order_id: orderId, ...row }) => ({ orderId, ...row }))
}
