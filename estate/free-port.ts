import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'

// Below Linux' ephemeral range (32768 and up): a port from there can be taken by somebody's outgoing
// connection while our server is down for a restart, and the restart on the same port then fails.
const lowestPort = 18_000
const highestPort = 32_000

// Never handed out twice by one process: between the probe and the server's own bind the port is free.
const handedOut = new Set<number>()

/** A TCP port of 127.0.0.1 nobody listens on. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt += 1) {
    const port = randomInt(lowestPort, highestPort)
    if (handedOut.has(port)) continue
    if (await canListenOn(port)) {
      handedOut.add(port)
      return port
    }
  }
  throw new Error(`no free port between ${lowestPort} and ${highestPort} on 127.0.0.1`)
}

async function canListenOn(port: number): Promise<boolean> {
  const probe = createServer()
  try {
    probe.listen({ port, host: '127.0.0.1', exclusive: true })
    await once(probe, 'listening')
  } catch {
    return false
  }
  probe.close()
  await once(probe, 'close')
  return true
}
