import { randomBytes } from 'node:crypto'

import {
  formatTraceparent,
  newSpanId,
  parseTraceparent,
  traceIdOfOrder,
} from '../contracts/trace-context.ts'
import type { HeaderMap } from './request-prelude.ts'

export function newTraceId(): string {
  return randomBytes(16).toString('hex')
}

/**
 * Keeps the client's trace when it is valid, or begins one: that of the order when the path names one, since the seams behind
 * carry no header. Returns the trace id.
 */
export function traceRequest(headers: HeaderMap, orderId: string | undefined): string {
  const given = headers['traceparent']
  const trace = parseTraceparent(typeof given === 'string' ? given : undefined)
  if (trace !== undefined) return trace.traceId
  const traceId = orderId === undefined ? newTraceId() : traceIdOfOrder(orderId)
  headers['traceparent'] = formatTraceparent({ traceId, spanId: newSpanId(), sampled: true })
  // It belongs to the parent that was not valid.
  delete headers['tracestate']
  return traceId
}
