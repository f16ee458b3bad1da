import { deliverySpan, messageSpan } from '../../contracts/order-trace.ts'
import type { OrderIdentity, SpanPlace } from '../../contracts/order-trace.ts'
import { statusRank } from '../../contracts/order.ts'
import { parseTraceparent } from '../../contracts/trace-context.ts'
import type { Tracing } from '../../runtime/tracing.ts'
import { legacyLinks } from '../wire/legacy-topology.ts'
import type { InboxState } from './bridge-inbox.ts'
import { createdKey, submittedKey } from './incoming.ts'
import type { Incoming } from './incoming.ts'

interface PassedMessage {
  readonly incoming: Incoming
  readonly order: OrderIdentity | undefined
  readonly inboxId: string
  readonly queue: string
  readonly enteredAt: number
  readonly outcome: InboxState
}

const keys: ReadonlySet<string> = new Set(legacyLinks.flatMap((link) => link.keys))

/**
 * CRM's `order.submitted`, when it goes on, is what takes the order to the MES; an order that the MES has told of first begins
 * with that. A sender that knows traces, as no legacy system here does, is the parent of its message.
 */
export function spanOfMessage(
  { delivery, message }: Incoming,
  order: OrderIdentity,
  inboxId: string,
  outcome: InboxState,
): SpanPlace {
  if (delivery.routingKey === submittedKey && outcome === 'forwarded') return deliverySpan(order)
  if (delivery.routingKey === createdKey && outcome === 'forwarded')
    return { ...deliverySpan(order), parentSpanId: undefined }
  const place = messageSpan(order, inboxId)
  const given = message === undefined ? undefined : delivery.properties.headers?.['traceparent']
  const sender = parseTraceparent(typeof given === 'string' ? given : undefined)
  return sender?.traceId === place.context.traceId
    ? { ...place, parentSpanId: sender.spanId }
    : place
}

/** A message of an order that the ledger knows leaves a span; nothing that it says of itself but words we know is in it. */
export function traceMessage(tracing: Tracing, passed: PassedMessage): void {
  const { incoming, order, inboxId, queue, enteredAt, outcome } = passed
  if (!tracing.on || order === undefined) return
  const { routingKey } = incoming.delivery
  const status = incoming.message?.status ?? 'none'
  tracing.record({
    name: `bridge ${queue}`,
    kind: 'consumer',
    ...spanOfMessage(incoming, order, inboxId, outcome),
    enteredAt,
    leftAt: performance.now(),
    attributes: {
      'strangler.order.id': order.orderId,
      'messaging.destination.name': queue,
      'messaging.rabbitmq.destination.routing_key': keys.has(routingKey) ? routingKey : 'other',
      'strangler.status': statusRank(status) >= 0 ? status : 'other',
      'strangler.outcome': outcome,
    },
    failed: outcome === 'parked' ? outcome : undefined,
  })
}
