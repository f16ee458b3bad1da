import type { Hop } from '../runtime/hop-recorder.ts'
import type { PassedRequest } from './proxy-listener.ts'

/** The trace an order leaves here; undefined when the request names none. No raw path, no body, no person. */
export function hopOfPass(listener: string, passed: PassedRequest): Hop | undefined {
  const { exchange, end, leftAt } = passed
  const { orderId, template } = exchange.route
  if (orderId === undefined) return undefined
  return {
    orderId,
    hop: `proxy:${listener}`,
    enteredAt: exchange.enteredAt,
    leftAt,
    actor: 'strangler-proxy',
    detail: {
      method: exchange.request.method ?? '',
      route: template,
      status: end.status,
      outcome: end.outcome,
      traceId: exchange.traceId,
      bytesIn: end.bytesIn,
      bytesOut: end.bytesOut,
    },
  }
}
