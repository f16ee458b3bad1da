import type { Server } from 'node:net'

/** The port a server really got; it must be listening. */
export function listeningPort(server: Server): number {
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('not listening on a port')
  return address.port
}
