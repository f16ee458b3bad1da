import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

import { freePort } from '../estate/free-port.ts'

/** Stands between clients and a server as a virtual address does: who is behind it, and how well it gets through, may change. */
export interface TcpForwarder {
  readonly port: number
  /** New connections go to the server at this port; those that are there are cut, as when an address moves to another machine. */
  pointTo(port: number): void
  /** The connections that are there hear nothing any more, not even their end, as when the machine at the other end is lost. */
  fallSilent(): void
  /** From now on what the server says arrives so many milliseconds late, in its order. */
  delayAnswers(ms: number): void
  /** What either side says lies here, also on new connections; no connection is cut. */
  hold(): void
  release(): void
  close(): Promise<void>
}

export async function startTcpForwarder(target: number): Promise<TcpForwarder> {
  const port = await freePort()
  const open = new Set<Socket>()
  const silent = new Set<Socket>()
  let server = target
  let lateMs = 0
  let held: PromiseWithResolvers<void> | undefined

  const pass = (from: Socket, to: Socket, late: () => number): void => {
    let last = Promise.resolve()
    const turn = async (due: number, before: Promise<void>, write: () => void): Promise<void> => {
      await before
      const left = due - performance.now()
      if (left > 0) await delay(left)
      await held?.promise
      if (!to.destroyed && !silent.has(to)) write()
    }
    const inTurn = (wait: number, write: () => void): void => {
      last = turn(performance.now() + wait, last, write)
    }
    from.on('data', (chunk) => inTurn(late(), () => to.write(chunk)))
    from.on('end', () => inTurn(late(), () => to.end()))
    // A reset is passed on as one: whoever waits must hear that the other is gone.
    from.on('error', () => {
      if (!silent.has(to)) to.destroy()
    })
    from.on('close', () => {
      open.delete(from)
      silent.delete(from)
      inTurn(late(), () => to.destroy())
    })
    open.add(from)
  }
  const listener = createServer({ noDelay: true }, (client) => {
    const upstream = connect({ port: server, host: '127.0.0.1', noDelay: true })
    pass(client, upstream, () => 0)
    pass(upstream, client, () => lateMs)
  })
  listener.listen(port, '127.0.0.1')
  await once(listener, 'listening')
  return {
    port,
    pointTo(other) {
      server = other
      for (const socket of open) if (!silent.has(socket)) socket.resetAndDestroy()
    },
    fallSilent() {
      for (const socket of open) silent.add(socket)
    },
    delayAnswers(ms) {
      lateMs = ms
    },
    hold() {
      held ??= Promise.withResolvers()
    },
    release() {
      held?.resolve()
      held = undefined
    },
    async close() {
      held?.resolve()
      for (const socket of open) socket.resetAndDestroy()
      listener.close()
      await once(listener, 'close')
    },
  }
}
