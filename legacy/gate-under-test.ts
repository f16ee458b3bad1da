import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

export type Gate = {
  /** The URL given, with the way through the gate. */
  readonly url: string
  /** Cuts every connection and refuses new ones, like a server that was killed. */
  shut(): Promise<void>
  open(): Promise<void>
}

/** A door before a server, so that a test can take the server away and give it back. */
export async function gateBefore(url: string): Promise<Gate> {
  const target = new URL(url)
  const port = Number(target.port)
  const sockets = new Set<Socket>()
  const server = createServer((near) => {
    const far = connect(port, target.hostname)
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        sockets.delete(socket)
        other.destroy()
      })
      socket.pipe(other)
    }
  })
  server.unref()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no TCP port')
  const gatePort = address.port
  const through = new URL(url)
  through.hostname = '127.0.0.1'
  through.port = String(gatePort)
  return {
    url: through.href,
    shut: async () => {
      const closed = once(server, 'close')
      server.close()
      for (const socket of sockets) socket.destroy()
      await closed
    },
    open: async () => {
      server.listen(gatePort, '127.0.0.1')
      await once(server, 'listening')
    },
  }
}
