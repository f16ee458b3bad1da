import { createHash } from 'node:crypto'

import { parseTraceparent, traceIdOfOrder } from './trace-context.ts'
import type { TraceContext } from './trace-context.ts'

/** What the ledger knows of an order's trace: `traceparent` is the context of its submit at the front door, null if none was seen. */
export interface OrderIdentity {
  readonly orderId: string
  readonly gen: number
  readonly traceparent: string | null
}

export interface SpanPlace {
  readonly context: TraceContext
  readonly parentSpanId: string | undefined
}

/*
 * One trace per order:
 *
 *   submit (proxy) -> accept (relay) -> deliver <gen> (courier, or the bridge with CRM's message) -> [MES]
 *                                          -> message <id> (bridge), each -> apply <id> (applier)
 *
 * No header passes through the Shop's database, CRM or the MES. So the trace id is that of the submit, kept with the order in the
 * ledger, or else derived from the order's id; and the ids of these spans are derived too: whoever has the ledger row knows
 * the parent of its own span, also after a crash and in whatever order things become known. W3C asks of ids only that they are
 * unique and not zero; 64 bits of SHA-256 are.
 */
export function traceIdOf({
  orderId,
  traceparent,
}: Pick<OrderIdentity, 'orderId' | 'traceparent'>): string {
  return parseTraceparent(traceparent ?? undefined)?.traceId ?? traceIdOfOrder(orderId)
}

/** The order comes into the ledger. */
export function acceptSpan(order: Pick<OrderIdentity, 'orderId' | 'traceparent'>): SpanPlace {
  const submit = parseTraceparent(order.traceparent ?? undefined)
  return place(order, spanId(order.orderId, 'accept'), submit?.spanId)
}

/** The order goes to the MES, for the `gen`-th time after the first. */
export function deliverySpan(order: OrderIdentity): SpanPlace {
  return place(order, spanId(order.orderId, 'deliver', order.gen), acceptSpan(order).context.spanId)
}

/** A message of the order passes a bridge. */
export function messageSpan(order: OrderIdentity, inboxId: string | number): SpanPlace {
  return place(order, spanId(order.orderId, 'message', inboxId), deliverySpan(order).context.spanId)
}

/** A status of the order, which came with that message, is applied. */
export function applySpan(order: OrderIdentity, inboxId: string | number): SpanPlace {
  return place(
    order,
    spanId(order.orderId, 'apply', inboxId),
    messageSpan(order, inboxId).context.spanId,
  )
}

/** What a line of the log says of an order. */
export function logged(order: Pick<OrderIdentity, 'orderId' | 'traceparent'>): {
  orderId: string
  traceId: string
} {
  return { orderId: order.orderId, traceId: traceIdOf(order) }
}

function place(
  order: Pick<OrderIdentity, 'orderId' | 'traceparent'>,
  id: string,
  parentSpanId: string | undefined,
): SpanPlace {
  const submit = parseTraceparent(order.traceparent ?? undefined)
  return {
    context: { traceId: traceIdOf(order), spanId: id, sampled: submit?.sampled ?? true },
    parentSpanId,
  }
}

function spanId(orderId: string, ...what: (string | number)[]): string {
  const id = createHash('sha256')
    .update([orderId, ...what].join('\n'))
    .digest('hex')
    .slice(0, 16)
  // Zero is no id.
  return /^0+$/.test(id) ? '0000000000000001' : id
}
