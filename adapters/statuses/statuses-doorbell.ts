import { Doorbell } from '../../delivery/doorbell.ts'
import type { DoorbellOptions, Ring } from '../../delivery/doorbell.ts'
import type { Log } from '../../runtime/log.ts'

export const statusesQueue = 'statuses'

/** Rings for orders that have something in the status inbox; a ring that fails costs a sweep, nothing else. */
export function statusesDoorbell(
  url: string | undefined,
  prefix: string | undefined,
  log: Log,
  onRung?: DoorbellOptions['onRung'],
): { ring(orders: readonly Ring[]): void; close(): Promise<void> } | undefined {
  if (url === undefined) return undefined
  const doorbell = new Doorbell({
    url,
    queue: statusesQueue,
    log,
    ...(prefix === undefined ? {} : { prefix }),
    ...(onRung === undefined ? {} : { onRung }),
  })
  let ringing: Promise<void> | undefined
  let waiting = new Map<string, Ring>()
  const ringAll = async (): Promise<void> => {
    while (waiting.size > 0) {
      const rings = [...waiting.values()]
      waiting = new Map()
      await doorbell
        .ring(rings)
        .catch((error: unknown) =>
          log.warn('ring_failed', { orders: rings.length, reason: String(error) }),
        )
    }
    ringing = undefined
  }
  return {
    ring(orders) {
      // While one ring is on its way the next ones gather: an order is rung once for all that has come meanwhile.
      for (const order of orders) waiting.set(order.orderId, order)
      if (waiting.size > 0) ringing ??= ringAll()
    },
    async close() {
      await ringing
      await doorbell.close()
    },
  }
}
