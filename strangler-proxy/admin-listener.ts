import { createServer } from 'node:http'

import { service } from '../runtime/lifecycle.ts'
import type { Service } from '../runtime/lifecycle.ts'
import { listeningPort } from './listening-port.ts'

export interface AdminListenerOptions {
  readonly host: string
  readonly port: number
  isReady(): boolean
  numbers(): unknown
}

export interface AdminListener extends Service {
  port(): number
}

/** `/health`, `/ready` and `/metrics`, on an address of its own: a path of a legacy system is never shadowed. */
export function adminListener(options: AdminListenerOptions): AdminListener {
  const server = createServer((request, response) => {
    const answer = (status: number, body: unknown): void => {
      const text = JSON.stringify(body)
      response.writeHead(status, { 'Content-Type': 'application/json', Connection: 'close' })
      response.end(text)
    }
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
        answer(200, options.numbers())
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
