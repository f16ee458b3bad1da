import { acceptOrders, type AcceptedOrder, type LedgerEntry } from '../../delivery/accept-orders.ts'
import { traceAccepted } from '../../delivery/trace-accepted.ts'
import { failpoint } from '../../runtime/failpoint.ts'
import type { Service } from '../../runtime/lifecycle.ts'
import type { Log } from '../../runtime/log.ts'
import { pollLoop } from '../../runtime/poll-loop.ts'
import { type Client, inTransaction, type Pool } from '../../runtime/postgres.ts'
import type { Tracing } from '../../runtime/tracing.ts'
import type { Broker, Sender } from '../broker/port.ts'
import { eventsToCrm, orderHeader } from '../wire/legacy-topology.ts'
import { orderSubmittedKey } from '../wire/order-submitted.ts'
import {
  mesProperties,
  orderCreatedBody,
  partnerOrderSubmittedBody,
  type StoredPartnerOrder,
} from '../wire/partner-order-messages.ts'
import { pace } from './pace.ts'

interface IntakeRelayOptions {
  readonly intake: Pool
  readonly ledger: Pool
  readonly broker: Broker
  /** A name that no other relay's connection has. */
  readonly senderName: string
  /** Called with the new orders after the ledger has committed them. Not awaited: a ring is never a condition. */
  ring(orders: readonly LedgerEntry[]): void
  /** False: this process may be behind the epoch, and takes up nothing. */
  readonly mayTake: () => boolean
  readonly log: Log
  readonly ordersPerMinute: number
  readonly batch?: number
  readonly tracing?: Tracing
  onRelayed?(orders: number): void
}

interface OutboxRow extends StoredPartnerOrder {
  readonly outboxId: string
  readonly pathEpoch: number
  readonly pathReason: unknown
  readonly ageMs: number
}

const createdKey = 'order.created'

/**
 * Intake outbox -> CRM is told, then -> ledger. CRM's `order.created` is confirmed before the ledger has the order: so it stands in
 * CRM's queue before anything that the MES will say of it. A crash in between repeats both; the bridge lets the second
 * `order.created` go no further, and the second insert changes nothing.
 *
 * Orders leave at a pace: the MES stores and prices each in the process that serves the operators' pages, so a flood has to wait
 * here, where it costs them nothing, and not in the MES's queue.
 */
export function intakeRelay(options: IntakeRelayOptions): Service {
  const { intake, ledger, broker, log } = options
  const batch = options.batch ?? 200
  const toMes = pace(options.ordersPerMinute)
  /** Partners, the one that was served last at the end. */
  const served = new Set<string>()
  let sender: Sender | undefined
  let opened = 0
  const openSender = async (): Promise<Sender> => {
    if (sender?.alive === true) return sender
    sender = await broker.openSender(`${options.senderName}.${++opened}`)
    return sender
  }
  const tell = async (orders: readonly OutboxRow[]): Promise<void> => {
    const open = await openSender()
    await Promise.all(
      orders.map((order) =>
        open.publish({
          exchange: eventsToCrm.exchange,
          routingKey: createdKey,
          body: orderCreatedBody(order),
          properties: {
            ...mesProperties,
            // By it the bridge knows that the ledger row is ours to make.
            headers: { ...mesProperties.headers, [orderHeader]: order.orderId },
          },
        }),
      ),
    )
  }
  const loop = pollLoop({
    name: 'intake relay',
    log,
    idleMs: () => 20,
    work: async () => {
      const due = Math.min(batch, toMes.due())
      if (due === 0 || !options.mayTake()) return false
      const { rows } = await intake.query<{ waiting: boolean }>(
        'SELECT EXISTS (SELECT FROM outbox WHERE relayed_at IS NULL) AS waiting /* poll */',
      )
      if (rows[0]?.waiting !== true) return false
      const taken = await inTransaction(intake, async (client) => {
        const enteredAt = performance.now()
        const orders = await takeUnrelayed(client, due, [...served])
        if (orders.length === 0) return orders
        failpoint('intake-relay.taken')
        await tell(orders)
        failpoint('intake-relay.told')
        const accepted = await acceptAll(ledger, orders, log)
        failpoint('intake-relay.accepted')
        await client.query(
          'UPDATE outbox SET relayed_at = clock_timestamp() WHERE id = ANY($1::bigint[])',
          [orders.map(({ outboxId }) => outboxId)],
        )
        options.ring(accepted)
        failpoint('intake-relay.rung')
        options.onRelayed?.(orders.length)
        traceAccepted(options.tracing, accepted, enteredAt)
        return orders
      })
      toMes.went(taken.length)
      for (const { partner } of taken) {
        served.delete(partner)
        served.add(partner)
      }
      return taken.length > 0
    },
  })
  return {
    start: () => loop.start(),
    async stop() {
      await loop.stop()
      await sender?.close()
    },
  }
}

/** Partners take turns, each with its oldest; among those whose turn it is, who was served longest ago comes first. */
async function takeUnrelayed(
  intake: Client,
  limit: number,
  served: readonly string[],
): Promise<OutboxRow[]> {
  const { rows } = await intake.query<OutboxRow>({
    name: 'take-unrelayed',
    text: `WITH turns AS (
             SELECT f.id, f.turn, coalesce(array_position($2::text[], p.id), 0) AS served
             FROM partner p CROSS JOIN LATERAL (
               SELECT id, row_number() OVER (ORDER BY id) AS turn FROM outbox
               WHERE partner = p.id AND relayed_at IS NULL ORDER BY id LIMIT $1) f)
           SELECT b.id AS "outboxId", o.id AS "orderId", o.partner, o.external_id AS "externalId", o.material, o.quantity, o.comment,
             o.model_key AS "modelKey", o.model_sha256 AS "modelSha256", o.model_bytes::float8 AS "modelBytes", o.created_at AS "createdAt",
             o.path_epoch AS "pathEpoch", o.path_reason AS "pathReason",
             extract(epoch FROM clock_timestamp() - b.at)::float8 * 1000 AS "ageMs"
           FROM outbox b JOIN partner_order o ON o.id = b.order_id
           WHERE b.relayed_at IS NULL AND b.id IN (SELECT id FROM turns ORDER BY turn, served, id LIMIT $1)
           ORDER BY b.id FOR UPDATE OF b SKIP LOCKED`,
    values: [limit, served],
  })
  return rows
}

/**
 * Every order is in the ledger when this returns. One whose external id the ledger has of another order is there under its own id:
 * the partner has our word for it, and an order that somebody else made is no reason to lose this one.
 */
async function acceptAll(
  ledger: Pool,
  orders: readonly OutboxRow[],
  log: Log,
): Promise<LedgerEntry[]> {
  const accepted = await acceptOrders(ledger, orders.map(asAccepted))
  const { rows } = await ledger.query<{ id: string }>(
    'SELECT order_id AS id FROM order_ledger WHERE order_id = ANY($1::text[])',
    [orders.map(({ orderId }) => orderId)],
  )
  const there = new Set(rows.map(({ id }) => id))
  const missing = orders.filter(({ orderId }) => !there.has(orderId))
  for (const { orderId, partner } of missing) log.error('external_id_taken', { orderId, partner })
  const under = await acceptOrders(
    ledger,
    missing.map((order) => ({ ...asAccepted(order), sourceRef: order.orderId })),
  )
  return [...accepted, ...under]
}

function asAccepted(order: OutboxRow): AcceptedOrder {
  return {
    orderId: order.orderId,
    origin: `partner:${order.partner}`,
    sourceRef: order.externalId,
    path: 'direct',
    pathEpoch: order.pathEpoch,
    pathReason: order.pathReason,
    routingKey: orderSubmittedKey,
    body: partnerOrderSubmittedBody(order),
    modelSha256: Buffer.from(order.modelSha256, 'hex'),
    ageMs: order.ageMs,
  }
}
