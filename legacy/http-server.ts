import { createServer, type RequestListener, type Server } from 'node:http'

// What is still under way after this long was going to be cut anyway.
const drainMs = 10_000

export type HttpServer = { readonly port: number; stop(): Promise<void> }

export async function listen(
  app: RequestListener,
  host: string,
  port: number,
): Promise<HttpServer> {
  const server: Server = createServer(app)
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, resolve)
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no TCP port')
  return {
    port: address.port,
    stop: async () => {
      const closed = new Promise<void>((resolve) => {
        server.close(() => resolve())
      })
      server.closeIdleConnections()
      const cut = setTimeout(() => server.closeAllConnections(), drainMs)
      await closed
      clearTimeout(cut)
    },
  }
}
