import { createHash } from 'node:crypto'

import type { OrderIdentity } from '../../contracts/order-trace.ts'
import type { Path } from '../../contracts/order.ts'
import { acceptOrders, type LedgerEntry } from '../../delivery/accept-orders.ts'
import type { Client, Pool } from '../../runtime/postgres.ts'
import { buryUnreadable, loadSubmittedOrders } from '../orders/load-submitted-orders.ts'
import { orderHeader } from '../wire/legacy-topology.ts'
import type { Incoming } from './incoming.ts'

/** An order as the ledger has it, and the path of what a message is about: the order's or, of a status, that of its statuses. */
export interface KnownOrder<Of extends Path | null = Path> extends OrderIdentity {
  readonly path: Of
  /** What is told of it is for the partner intake as well. */
  readonly ofPartner: boolean
}

async function readPaths(
  ledger: Pool,
  orderIds: readonly string[],
): Promise<Map<string, KnownOrder>> {
  if (orderIds.length === 0) return new Map()
  const { rows } = await ledger.query<KnownOrder>({
    name: 'bridge-paths',
    text: `SELECT order_id AS "orderId", path, gen, traceparent, origin <> 'shop' AS "ofPartner"
           FROM order_ledger WHERE order_id = ANY($1::text[])`,
    values: [orderIds],
  })
  return new Map(rows.map((row) => [row.orderId, row]))
}

/** What became of submitted orders: `accepted` are those that the ledger did not know before. */
interface Submitted {
  readonly known: Map<string, KnownOrder>
  readonly accepted: readonly LedgerEntry[]
}

/**
 * The stored path of each submitted order. CRM may be faster than the relay, so what the ledger lacks is read from the
 * Shop's outbox; what is not there either was submitted before the capture, and is legacy. Either way the ledger has it then.
 * Of a captured row that can't be read only the path is needed: where CRM delivers, CRM's own message is the order's body.
 */
export async function pathsOfSubmitted(
  ledger: Pool,
  shop: Pool,
  submitted: readonly Incoming[],
): Promise<Submitted> {
  const orderIds = [...new Set(submitted.flatMap(({ message }) => message?.orderId ?? []))]
  const known = await readPaths(ledger, orderIds)
  const missing = orderIds.filter((id) => !known.has(id))
  if (missing.length === 0) return { known, accepted: [] }
  const { readable, unreadable } = await loadSubmittedOrders(shop, missing)
  const captured = await acceptOrders(ledger, readable)
  await buryUnreadable(
    ledger,
    unreadable.filter(({ path }) => path === 'direct'),
  )
  const found = new Set([
    ...readable.map(({ orderId }) => orderId),
    ...unreadable.filter(({ path }) => path === 'direct').map(({ orderId }) => orderId),
  ])
  const fromCrm = submitted.filter(
    ({ message }) =>
      message !== undefined && missing.includes(message.orderId) && !found.has(message.orderId),
  )
  const decided = new Map(unreadable.map((order) => [order.orderId, order]))
  const uncaptured = await acceptOrders(
    ledger,
    fromCrm.map((incoming) => {
      const identity = identityOf(incoming)
      const row = decided.get(identity.orderId)
      return {
        ...identity,
        ...(row !== undefined && { origin: 'shop', sourceRef: identity.orderId }),
        path: 'legacy' as const,
        pathEpoch: row?.pathEpoch ?? 0,
        pathReason: row?.pathReason ?? { rule: 'submitted before the capture' },
        routingKey: incoming.delivery.routingKey,
        body: incoming.delivery.body,
        ageMs: row?.ageMs ?? 0,
      }
    }),
  )
  return { known: await readPaths(ledger, orderIds), accepted: [...captured, ...uncaptured] }
}

/** The MES has taken these legacy orders, also those whose captured row could not be read: CRM could. */
export async function markDelivered(client: Client, orderIds: readonly string[]): Promise<void> {
  if (orderIds.length === 0) return
  await client.query(
    `UPDATE order_ledger SET state = 'delivered', delivered_at = clock_timestamp(), dead_reason = NULL
     WHERE order_id = ANY($1::text[]) AND path = 'legacy'
       AND (state IN ('accepted', 'in_doubt') OR (state = 'dead' AND dead_reason ->> 'code' = 'malformed_message'))`,
    [orderIds],
  )
}

function insertBornInMes(sourceRef: 'i.source_ref' | 'i.order_id'): string {
  return `
    INSERT INTO order_ledger (order_id, origin, source_ref, path, path_epoch, path_reason, state, routing_key, body, body_sha256,
                              submitted_at, accepted_at, delivered_at)
    SELECT i.order_id, i.origin, ${sourceRef}, 'legacy', 0, '{"rule": "born in the MES"}', 'delivered', i.routing_key, i.body, i.body_sha256,
           now(), now(), now()
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::bytea[])
      AS i(order_id, origin, source_ref, routing_key, body, body_sha256)
    ON CONFLICT DO NOTHING`
}

/** Partner orders that the MES took over its own API: the ledger learns of them from the message to CRM. */
export async function openBornInMes(client: Client, created: readonly Incoming[]): Promise<void> {
  // Of one that the intake has accepted the row is its relay's to make, and the order has not been in the MES.
  const born = created.filter(
    ({ delivery }) => delivery.properties.headers?.[orderHeader] === undefined,
  )
  if (born.length === 0) return
  const identities = born.map(identityOf)
  const values = [
    identities.map(({ orderId }) => orderId),
    identities.map(({ origin }) => origin),
    identities.map(({ sourceRef }) => sourceRef),
    born.map(({ delivery }) => delivery.routingKey),
    born.map(({ delivery }) => delivery.body),
    born.map(({ delivery }) => createHash('sha256').update(delivery.body).digest()),
  ]
  await client.query(insertBornInMes('i.source_ref'), values)
  // The MES takes one external id twice, as two orders; each has its row.
  await client.query(insertBornInMes('i.order_id'), values)
}

function identityOf({ message }: Incoming): { orderId: string; origin: string; sourceRef: string } {
  const orderId = message?.orderId ?? ''
  const fromPartner = message?.partner !== undefined || message?.source === 'partner'
  return {
    orderId,
    origin: fromPartner ? `partner:${message?.partner ?? 'unknown'}` : 'shop',
    sourceRef: message?.externalId ?? orderId,
  }
}
