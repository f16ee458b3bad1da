import { createServer } from 'node:http'

import { service } from '../runtime/lifecycle.ts'
import type { Service } from '../runtime/lifecycle.ts'
import type { PrometheusMetrics } from '../runtime/prometheus.ts'
import { listeningPort } from './listening-port.ts'

export interface AdminListenerOptions {
  readonly host: string
  readonly port: number
  isReady(): boolean
  readonly metrics: PrometheusMetrics
}

export interface AdminListener extends Service {
  port(): number
}

/** `/health`, `/ready` and `/metrics`, on an address of its own: a path of a legacy system is never shadowed. */
export function adminListener(options: AdminListenerOptions): AdminListener {
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
  const life = service({
    start: () =>
      new Promise<void>((resolve, reject) => {
        server.once('error', reject)
        server.listen(options.port, options.host, () => {
          server.off('error', reject)
          resolve()
        })
      }),
    stop: async () => {
      if (!server.listening) return
      const closed = new Promise<void>((resolve) => {
        server.close(() => resolve())
      })
      server.closeAllConnections()
      await closed
    },
  })
  return { ...life, port: () => listeningPort(server) }
}
