import { createServer } from 'node:http'

import { httpListener } from './http-listener.ts'
import { type Service, service } from './lifecycle.ts'
import type { Log } from './log.ts'
import type { PrometheusMetrics } from './prometheus.ts'

/** What `GET /health` answers, always with 200: a process that can say what ails it lives. */
export type Health = () => { readonly status: 'ok' | 'stale' } & Readonly<Record<string, unknown>>

/** `GET /metrics` and `GET /health` of a process. */
export function metricsListener(
  metrics: PrometheusMetrics,
  options: {
    readonly host: string
    readonly port: number
    readonly health?: Health
    readonly log: Log
  },
): Service {
  const { host, port, log, health = () => ({ status: 'ok' }) } = options
  metrics.describeProcess()
  const server = createServer((request, response) => {
    const answer = (status: number, type: string, body: string): void => {
      response.writeHead(status, { 'Content-Type': type, Connection: 'close' })
      response.end(body)
    }
    switch (request.url) {
      case '/health':
        answer(200, 'application/json', JSON.stringify(health()))
        break
      case '/metrics':
        metrics.text().then(
          (body) => answer(200, metrics.contentType, body),
          (error: unknown) => {
            log.warn('metrics_unreadable', { reason: String(error) })
            answer(500, 'application/json', '{"status":"unreadable"}')
          },
        )
        break
      default:
        answer(404, 'application/json', '{"status":"not found"}')
    }
  })
  const listener = httpListener(server, { host, port, drainMs: 0 })
  return service({
    async start() {
      await listener.start()
      log.info('metrics', { port: listener.port() })
    },
    stop: () => listener.stop(),
  })
}
