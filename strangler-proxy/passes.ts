import type { Exchange } from './exchange.ts'
import type { FailureCode } from './failure.ts'
import { peerOf } from './forwarded-headers.ts'
import type { PartnerSeam } from './partner-seam.ts'
import { requestPrelude } from './request-prelude.ts'
import { requestTarget } from './request-target.ts'
import { routeOf } from './route.ts'
import { traceRequest } from './trace-of-request.ts'

interface Pass {
  readonly name: string
  /** The reason to refuse the request here, or undefined to go on. */
  run(exchange: Exchange): FailureCode | undefined
}

/** What a request goes through before it is pumped, in this order; the first that refuses ends it. */
export function requestPasses(
  trustedProxies: ReadonlySet<string>,
  spansAreMade: boolean,
  partners: PartnerSeam | undefined,
): readonly Pass[] {
  return [
    {
      name: 'target',
      run: ({ request }) => {
        const target = requestTarget(request.url ?? '', request.headers.host)
        if (target === undefined) return 'unsupported_target'
        request.url = target
        return undefined
      },
    },
    {
      name: 'prelude',
      run: (exchange) => {
        const { method, rawHeaders, socket } = exchange.request
        const peer = peerOf(socket.remoteAddress, trustedProxies)
        const headers = requestPrelude(method ?? '', rawHeaders, peer)
        if (typeof headers === 'string') return headers
        exchange.headers = headers
        return undefined
      },
    },
    {
      name: 'route',
      run: (exchange) => {
        const { request, headers } = exchange
        exchange.route = routeOf({
          method: request.method ?? '',
          target: request.url ?? '',
          accept: String(headers['accept'] ?? ''),
          chunked: headers['transfer-encoding'] !== undefined,
          contentLength: Number(headers['content-length'] ?? 0),
        })
        return undefined
      },
    },
    {
      name: 'trace',
      run: (exchange) => {
        const { orderId } = exchange.route
        exchange.trace = traceRequest(exchange.headers, orderId, spansAreMade)
        if (orderId !== undefined) exchange.headers['x-strangler-order'] = orderId
        exchange.request.headers = exchange.headers
        return undefined
      },
    },
    {
      name: 'side',
      run: (exchange) => partners?.choose(exchange),
    },
  ]
}
