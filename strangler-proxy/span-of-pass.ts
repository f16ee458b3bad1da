import type { Span } from '../runtime/tracing.ts'
import { failureKinds } from './failure.ts'
import type { PassedRequest } from './proxy-listener.ts'
import { isSafe } from './route.ts'

const methods = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])

/**
 * The span of a request. A page that is looked at, or polled, has one only where the client traces it: it is counted, and an
 * order's trace would drown in it.
 */
export function spanOfPass(
  door: string,
  { exchange, end, leftAt }: PassedRequest,
): Span | undefined {
  const { trace, route, request, enteredAt } = exchange
  const method = methods.has(request.method ?? '') ? (request.method ?? '') : '_OTHER'
  if (isSafe(method) && !trace.given) return undefined
  const { outcome, status } = end
  const failed = outcome === 'passed' ? status >= 500 : failureKinds[outcome].side !== 'client'
  return {
    name: `${method} ${route.template}`,
    kind: 'server',
    context: trace.context,
    parentSpanId: trace.parentSpanId,
    enteredAt,
    leftAt,
    attributes: {
      'http.request.method': method,
      'http.route': route.template,
      'http.response.status_code': status,
      'strangler.door': door,
      'strangler.outcome': outcome,
      ...(route.orderId !== undefined && { 'strangler.order.id': route.orderId }),
    },
    failed: failed ? outcome : undefined,
  }
}
