import { Agent } from 'node:http'
import type { ClientRequestArgs } from 'node:http'
import type { Socket } from 'node:net'

import { PatientSocket } from './patient-socket.ts'

const patienceMs = 1000

/**
 * Connections to one origin for one class of requests. How many are open is the business of `Slots`: a request that waited
 * inside an agent could be answered 503 and be sent all the same.
 */
export class UpstreamAgent extends Agent {
  /** With `reuse` false every request has a connection of its own. */
  constructor(reuse: boolean) {
    super({ keepAlive: reuse, maxFreeSockets: 64 })
  }

  override createConnection(options: ClientRequestArgs): Socket {
    const socket = new PatientSocket(patienceMs)
    socket.setNoDelay(true)
    return socket.connect({ host: options.host ?? 'localhost', port: Number(options.port) })
  }
}
