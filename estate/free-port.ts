import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type ListenOptions } from 'node:net'

// Below Linux' ephemeral range (32768 and up): a port from there can be taken by somebody's outgoing
// connection while our server is down for a restart, and the restart on the same port then fails.
const lowestPort = 18_000
const highestPort = 32_000

/**
 * A TCP port of 127.0.0.1 nobody listens on. It is handed out to nobody else, by any process, while this one lives: between the
 * probe and the server's own bind the port is free, and an estate binds some of its ports seconds later.
 */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt += 1) {
    const port = randomInt(lowestPort, highestPort)
    if ((await reserve(port)) && (await canListenOn(port))) return port
  }
  throw new Error(`no free port between ${lowestPort} and ${highestPort} on 127.0.0.1`)
}

/** By a name in the abstract namespace: the kernel gives it to one process, and takes it back however that one ends. */
async function reserve(port: number): Promise<boolean> {
  const held = createServer()
  if (!(await listens(held, { path: `\0strangler-port-${port}` }))) return false
  held.unref()
  return true
}

async function canListenOn(port: number): Promise<boolean> {
  const probe = createServer()
  if (!(await listens(probe, { port, host: '127.0.0.1', exclusive: true }))) return false
  probe.close()
  await once(probe, 'close')
  return true
}

async function listens(
  server: ReturnType<typeof createServer>,
  where: ListenOptions,
): Promise<boolean> {
  try {
    server.listen(where)
    await once(server, 'listening')
    return true
  } catch {
    return false
  }
}
