import { acceptSpan } from '../contracts/order-trace.ts'
import { noTracing, type Tracing } from '../runtime/tracing.ts'
import type { LedgerEntry } from './accept-orders.ts'

/** Whoever brings an order into the ledger leaves its first span after the submit. `enteredAt` is performance.now(). */
export function traceAccepted(
  tracing: Tracing = noTracing,
  accepted: readonly LedgerEntry[],
  enteredAt: number,
): void {
  if (!tracing.on) return
  const leftAt = performance.now()
  for (const order of accepted) {
    tracing.record({
      name: 'accept order',
      kind: 'consumer',
      ...acceptSpan(order),
      enteredAt,
      leftAt,
      attributes: { 'strangler.order.id': order.orderId, 'strangler.path': order.path },
    })
  }
}
