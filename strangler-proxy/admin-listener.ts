import { createServer } from 'node:http'

import { type HttpListener, httpListener } from '../runtime/http-listener.ts'
import type { PrometheusMetrics } from '../runtime/prometheus.ts'

export interface AdminListenerOptions {
  readonly host: string
  readonly port: number
  isReady(): boolean
  readonly metrics: PrometheusMetrics
}

/** `/health`, `/ready` and `/metrics`, on an address of its own: a path of a legacy system is never shadowed. */
export function adminListener(options: AdminListenerOptions): HttpListener {
  const { metrics } = options
  metrics.describeProcess()
  const server = createServer((request, response) => {
    const send = (status: number, type: string, text: string): void => {
      response.writeHead(status, { 'Content-Type': type, Connection: 'close' })
      response.end(text)
    }
    const answer = (status: number, body: unknown): void =>
      send(status, 'application/json', JSON.stringify(body))
    switch (request.url) {
      case '/health':
        answer(200, { status: 'ok' })
        break
      case '/ready': {
        const ready = options.isReady()
        answer(ready ? 200 : 503, { ready })
        break
      }
      case '/metrics':
        metrics.text().then(
          (text) => send(200, metrics.contentType, text),
          () => answer(500, { status: 'unreadable' }),
        )
        break
      default:
        answer(404, { status: 'not found' })
    }
  })
  return httpListener(server, { host: options.host, port: options.port, drainMs: 0 })
}
