import type { Hop } from '../runtime/hop-recorder.ts'
import type { PassedRequest } from './proxy-listener.ts'
import type { RelayEnd } from './relay.ts'

/** Only these move an order. A page that is looked at, or polled, is no part of its way. */
const moving = new Set(['POST', 'PUT', 'PATCH', 'DELETE'])
/**
 * A refusal of the upstream's: nothing was changed, and perhaps there is no such order. Whoever sends any UUID must leave nothing
 * behind. 409 is the exception: the order is there, and somebody else was first.
 */
function isRefused({ outcome, status }: RelayEnd): boolean {
  return outcome === 'passed' && status >= 400 && status < 500 && status !== 409
}

/**
 * The trace an order leaves here; undefined when the request names none or is no step of its way. No raw path, no body, no
 * person.
 */
export function hopOfPass(listener: string, passed: PassedRequest): Hop | undefined {
  const { exchange, end, leftAt } = passed
  const { orderId, template } = exchange.route
  const side = exchange.backend.name
  if (orderId === undefined || !moving.has(exchange.request.method ?? '')) return undefined
  if (isRefused(end)) return undefined
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
      traceId: exchange.trace.context.traceId,
      bytesIn: end.bytesIn,
      bytesOut: end.bytesOut,
      // Who answered, where that is not who has the door.
      ...(side !== listener && { side }),
    },
  }
}
