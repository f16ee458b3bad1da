import { createServer as createHttpServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer as createTcpServer } from 'node:net'
import type { Server, Socket } from 'node:net'

import { listeningPort } from './listening-port.ts'

export interface Teardown {
  teardown(undo: () => Promise<void>): void
}

/** An upstream for tests; the raw form is as hostile as the test makes it. */
export interface StubUpstream {
  readonly port: number
  readonly origin: string
  /** Connections that are open now. */
  readonly sockets: ReadonlySet<Socket>
  readonly connections: number
  close(): Promise<void>
}

export async function httpStub(
  t: Teardown,
  listener: (request: IncomingMessage, response: ServerResponse) => void | Promise<void>,
): Promise<StubUpstream> {
  const server = createHttpServer(
    { requestTimeout: 0 },
    (request, response) => void listener(request, response),
  )
  return await listenOn(t, server)
}

export async function rawStub(
  t: Teardown,
  onConnection: (socket: Socket) => void | Promise<void>,
): Promise<StubUpstream> {
  return await listenOn(
    t,
    createTcpServer({ allowHalfOpen: true }, (socket) => void onConnection(socket)),
  )
}

async function listenOn(t: Teardown, server: Server): Promise<StubUpstream> {
  const sockets = new Set<Socket>()
  let connections = 0
  server.on('connection', (socket) => {
    connections += 1
    sockets.add(socket)
    socket.on('error', () => socket.destroy())
    socket.on('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const port = listeningPort(server)
  const close = async (): Promise<void> => {
    if (!server.listening) return
    const closed = new Promise<void>((resolve) => {
      server.close(() => resolve())
    })
    for (const socket of sockets) socket.destroy()
    await closed
  }
  t.teardown(close)
  return {
    port,
    origin: `http://127.0.0.1:${port}`,
    sockets,
    get connections() {
      return connections
    },
    close,
  }
}

/** Resolves with the text of the request's head, and leaves the rest to `onRest`. */
export function headOf(socket: Socket, onRest?: (chunk: Buffer) => void): Promise<string> {
  return new Promise((resolve) => {
    let seen = Buffer.alloc(0)
    let done = false
    socket.on('data', (chunk: Buffer) => {
      if (done) {
        onRest?.(chunk)
        return
      }
      seen = Buffer.concat([seen, chunk])
      const end = seen.indexOf('\r\n\r\n')
      if (end === -1) return
      done = true
      resolve(seen.subarray(0, end + 4).toString('latin1'))
      if (end + 4 < seen.length) onRest?.(seen.subarray(end + 4))
    })
  })
}
