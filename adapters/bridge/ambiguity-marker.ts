import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'

import { StranglerError } from '../../contracts/errors.ts'
import type { Pool } from '../../runtime/postgres.ts'
import type { Broker } from '../broker/port.ts'
import { bridgeQueue } from '../wire/legacy-topology.ts'
import { markerHeader } from './incoming.ts'

/** A publisher that was just routing when the bindings changed has delivered by then. */
const routingMs = 1000

/**
 * Sends a message of ours through our queue and waits until the bridge has received it. What stands before it may also have
 * gone the other way while the bindings changed; what comes after it has not. Returns when it was received.
 */
export async function passMarker(options: {
  readonly broker: Broker
  readonly ledger: Pool
  readonly queue: string
  readonly waitMs: number
  readonly signal: AbortSignal | undefined
}): Promise<string> {
  const { broker, ledger, queue, waitMs, signal } = options
  await delay(routingMs, undefined, signal === undefined ? {} : { signal })
  const marker = randomUUID()
  const sender = await broker.openSender(`marker.${marker}`)
  try {
    await sender.publish({
      exchange: '',
      routingKey: bridgeQueue(queue),
      body: Buffer.from('{}'),
      properties: { messageId: marker, headers: { [markerHeader]: marker } },
    })
  } finally {
    await sender.close()
  }
  const deadline = performance.now() + waitMs
  for (;;) {
    const { rows } = await ledger.query<{ at: string }>(
      `SELECT received_at::text AS at FROM bridge_inbox
       WHERE queue = $1 AND order_id IS NULL AND properties ->> 'messageId' = $2 AND state = 'suppressed'`,
      [queue, marker],
    )
    if (rows[0] !== undefined) return rows[0].at
    if (performance.now() > deadline) {
      throw new StranglerError(
        'refused',
        `the bridge of ${queue} does not come to the end of the change: run this again`,
      )
    }
    await delay(100, undefined, signal === undefined ? {} : { signal })
  }
}
