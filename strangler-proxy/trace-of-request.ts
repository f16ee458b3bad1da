import { randomBytes } from 'node:crypto'

import {
  formatTraceparent,
  newSpanId,
  parseTraceparent,
  traceIdOfOrder,
} from '../contracts/trace-context.ts'
import type { TraceContext } from '../contracts/trace-context.ts'
import type { HeaderMap } from './request-prelude.ts'

/** Where a request stands in its trace. */
export interface RequestTrace {
  /** What is passed on. */
  readonly context: TraceContext
  /** The client brought a valid trace: then its span, unless it is passed on itself. */
  readonly given: boolean
  readonly parentSpanId: string | undefined
}

/** A trace of its own, before anything is known of the request. */
export function newTrace(): RequestTrace {
  const traceId = randomBytes(16).toString('hex')
  return {
    context: { traceId, spanId: newSpanId(), sampled: true },
    given: false,
    parentSpanId: undefined,
  }
}

/**
 * Keeps the client's trace when it is valid, or begins one: that of the order when the path names one, since the seams behind
 * carry no header. Where spans are collected the client's span becomes the parent of ours; otherwise its header passes as it came.
 */
export function traceRequest(
  headers: HeaderMap,
  orderId: string | undefined,
  spansAreMade: boolean,
): RequestTrace {
  const header = headers['traceparent']
  const given = parseTraceparent(typeof header === 'string' ? header : undefined)
  if (given !== undefined && !spansAreMade)
    return { context: given, given: true, parentSpanId: undefined }
  if (given !== undefined) {
    const context = { ...given, spanId: newSpanId() }
    headers['traceparent'] = formatTraceparent(context)
    return { context, given: true, parentSpanId: given.spanId }
  }
  const begun = newTrace()
  const traceId = orderId === undefined ? begun.context.traceId : traceIdOfOrder(orderId)
  const trace = { ...begun, context: { ...begun.context, traceId } }
  headers['traceparent'] = formatTraceparent(trace.context)
  // It belongs to the parent that was not valid.
  delete headers['tracestate']
  return trace
}
