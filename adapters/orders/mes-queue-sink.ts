import { deliverySpan } from '../../contracts/order-trace.ts'
import { formatTraceparent } from '../../contracts/trace-context.ts'
import type { ClaimedOrder } from '../../delivery/ledger-claims.ts'
import type { Evidence, Sink } from '../../delivery/sink.ts'
import type { Pool } from '../../runtime/postgres.ts'
import type { Broker, MessageProperties } from '../broker/port.ts'
import { findInMes } from '../wire/mes-orders.ts'
import { crmProperties } from '../wire/order-submitted.ts'

interface MesQueue {
  /** The exchange that leads to the MES queue past our own bridge: CRM's exchange would lead back into it. */
  readonly exchange: string
  readonly queue: string
  /** Each message carries its W3C trace context. */
  readonly traced: boolean
}

/**
 * Delivers into the MES queue what CRM would have sent, plus the order's id as message id and header and, where traces are
 * collected, the header `traceparent`: a MES that knows it continues the trace, any other takes no notice of a header.
 */
export function mesQueueSink(broker: Broker, target: MesQueue): Sink {
  return {
    async connect(name) {
      // Additive, and the same whether or not the bridge stands: the way into the MES queue past CRM's exchange.
      await broker.declareTopicExchange(target.exchange)
      await broker.rebind({
        add: [{ exchange: target.exchange, queue: target.queue, pattern: '#' }],
        remove: [],
      })
      const sender = await broker.openSender(name)
      return {
        name,
        get alive() {
          return sender.alive
        },
        send: (order) =>
          sender.publish({
            exchange: target.exchange,
            routingKey: order.routingKey,
            body: order.body,
            properties: propertiesOf(order, target.traced),
          }),
        close: () => sender.close(),
      }
    },
  }
}

function propertiesOf(order: ClaimedOrder, traced: boolean): MessageProperties {
  // A message id is an AMQP short string, 255 bytes at most; the header has no such limit.
  const named = Buffer.byteLength(order.orderId) <= 255 ? { messageId: order.orderId } : {}
  return {
    ...crmProperties,
    ...named,
    headers: {
      ...crmProperties.headers,
      'x-strangler-order': order.orderId,
      ...(traced && { traceparent: formatTraceparent(deliverySpan(order).context) }),
    },
  }
}

/** What can be known about an order that may be in the MES queue: the MES's own row, a status it sent, the queue itself. */
export function mesQueueEvidence(sources: {
  broker: Broker
  queue: string
  mes: Pool
  ledger: Pool
}): Evidence {
  return {
    async held(orderIds) {
      const held = new Map<string, string>()
      if (orderIds.length === 0) return held
      const { rows } = await sources.ledger.query<{ order_id: string; routing_key: string }>(
        // Only what came after this attempt began: an older status may tell of a row that the MES has lost since.
        `SELECT DISTINCT ON (b.order_id) b.order_id, b.routing_key FROM bridge_inbox b JOIN order_ledger l ON l.order_id = b.order_id
         WHERE b.order_id = ANY($1::text[]) AND b.routing_key IN ('order.price_calculated', 'order.status_changed')
           AND b.received_at >= l.sending_at
         ORDER BY b.order_id, b.id`,
        [orderIds],
      )
      for (const row of rows) held.set(row.order_id, `the MES sent ${row.routing_key}`)
      const inMes = await findInMes(sources.mes, orderIds)
      for (const orderId of orderIds) {
        // The MES gives a UUID back in lower case, however the source wrote it.
        const found = inMes.get(orderId.toLowerCase())
        if (found !== undefined) held.set(orderId, `MES row, ${found.status}`)
      }
      return held
    },
    connectionGone: (name) => sources.broker.senderGone(name),
    mayBeUnderway: (orderId, since) => sources.broker.mayHold(sources.queue, orderId, since),
  }
}
