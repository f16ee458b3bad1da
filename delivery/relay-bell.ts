import { acceptSpan } from '../contracts/order-trace.ts'
import { formatTraceparent } from '../contracts/trace-context.ts'
import { service, type Service } from '../runtime/lifecycle.ts'
import type { Log } from '../runtime/log.ts'
import type { LedgerEntry } from './accept-orders.ts'
import { Doorbell, type DoorbellOptions } from './doorbell.ts'

export interface RelayBell extends Service {
  /** Not awaited: a ring is never a condition. */
  ring(orders: readonly LedgerEntry[]): void
}

/**
 * Rings for what a relay has brought to the ledger, one batch after the other; what is under way leaves before it stops.
 * @param options undefined: there is no doorbell, and the ledger is polled
 * @param traced each ring carries its order's trace context
 */
export function relayBell(
  options: DoorbellOptions | undefined,
  traced: boolean,
  log: Log,
): RelayBell {
  const doorbell = options === undefined ? undefined : new Doorbell(options)
  let ringing = Promise.resolve()
  const life = service({
    start: () => Promise.resolve(),
    async stop() {
      await ringing
      await doorbell?.close()
    },
  })
  return {
    ...life,
    ring(orders) {
      if (doorbell === undefined) return
      const called = orders.map((order) => ({
        orderId: order.orderId,
        gen: order.gen,
        ...(traced && { traceparent: formatTraceparent(acceptSpan(order).context) }),
      }))
      ringing = ringing
        .then(() => doorbell.ring(called))
        .catch((error: unknown) =>
          log.warn('ring_failed', { orders: orders.length, reason: String(error) }),
        )
    },
  }
}
