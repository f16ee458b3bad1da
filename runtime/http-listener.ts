import type { Server } from 'node:http'

import { service } from './lifecycle.ts'
import type { Service } from './lifecycle.ts'

const usualDrainMs = 10_000

export interface HttpListener extends Service {
  port(): number
}

export function httpListener(
  server: Server,
  options: {
    readonly host: string
    readonly port: number
    /** At a stop, what is still under way after so long is cut. */
    readonly drainMs?: number
  },
): HttpListener {
  const life = service({
    start: () =>
      new Promise<void>((resolve, reject) => {
        server.once('error', reject)
        server.listen(options.port, options.host, () => {
          server.off('error', reject)
          resolve()
        })
      }),
    async stop() {
      if (!server.listening) return
      const closed = new Promise<void>((resolve) => {
        server.close(() => resolve())
      })
      server.closeIdleConnections()
      const cut = setTimeout(() => server.closeAllConnections(), options.drainMs ?? usualDrainMs)
      await closed
      clearTimeout(cut)
    },
  })
  return {
    ...life,
    port() {
      const address = server.address()
      if (address === null || typeof address === 'string') throw new Error('no TCP port')
      return address.port
    },
  }
}
