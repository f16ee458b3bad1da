import { logged } from '../../contracts/order-trace.ts'
import { acceptOrders, type LedgerEntry } from '../../delivery/accept-orders.ts'
import { traceAccepted } from '../../delivery/trace-accepted.ts'
import { failpoint } from '../../runtime/failpoint.ts'
import type { Service } from '../../runtime/lifecycle.ts'
import type { Log } from '../../runtime/log.ts'
import { pollLoop } from '../../runtime/poll-loop.ts'
import { inTransaction, type Pool } from '../../runtime/postgres.ts'
import type { Tracing } from '../../runtime/tracing.ts'
import { buryUnreadable, takeUnrelayed } from './load-submitted-orders.ts'

interface RelayOptions {
  readonly shop: Pool
  readonly ledger: Pool
  /** Called with the new direct orders after the ledger has committed them. Not awaited: a ring is never a condition. */
  ring(orders: readonly LedgerEntry[]): void
  /** False: this process may be behind the epoch, and takes up nothing. */
  readonly mayTake: () => boolean
  readonly log: Log
  readonly batch?: number
  readonly tracing?: Tracing
  /** Told of what each batch held: `known` were in the ledger already. */
  onRelayed?(batch: RelayedBatch): void
}

export interface RelayedBatch {
  readonly direct: number
  readonly legacy: number
  readonly known: number
  readonly unreadable: number
}

/**
 * Shop outbox -> ledger. The ledger row commits first, the outbox mark second: a crash between the two repeats the insert,
 * which then changes nothing. Rows are taken by state and lock, never by a cursor over ids, so an order whose transaction
 * commits late is not skipped. A row that no message can be made of is in the ledger as dead, and holds up no other.
 */
export function shopRelay(options: RelayOptions): Service {
  const batch = options.batch ?? 500
  return pollLoop({
    name: 'relay',
    log: options.log,
    idleMs: () => 20,
    work: async () => {
      if (!options.mayTake()) return false
      // Most rounds find nothing, and then cost the Shop DB one statement and no transaction.
      const { rows } = await options.shop.query<{ waiting: boolean }>(
        'SELECT EXISTS (SELECT FROM strangler.outbox WHERE relayed_at IS NULL) AS waiting /* poll */',
      )
      if (rows[0]?.waiting !== true) return false
      return inTransaction(options.shop, async (shop) => {
        const enteredAt = performance.now()
        const { readable, unreadable } = await takeUnrelayed(shop, batch)
        const taken = [...readable, ...unreadable]
        if (taken.length === 0) return false
        failpoint('relay.taken')
        const accepted = await acceptOrders(options.ledger, readable)
        const buried = await buryUnreadable(options.ledger, unreadable)
        for (const { orderId, unreadable: detail } of unreadable) {
          const traceparent = buried.get(orderId) ?? null
          options.log.error('order_unreadable', { ...logged({ orderId, traceparent }), detail })
        }
        failpoint('relay.accepted')
        await shop.query({
          name: 'mark-relayed',
          text: 'UPDATE strangler.outbox SET relayed_at = clock_timestamp() WHERE id = ANY($1::bigint[])',
          values: [taken.map(({ outboxId }) => outboxId)],
        })
        const direct = accepted.filter((order) => order.path === 'direct')
        options.ring(direct)
        failpoint('relay.rung')
        options.onRelayed?.({
          direct: direct.length,
          legacy: accepted.length - direct.length,
          known: readable.length - accepted.length,
          unreadable: unreadable.length,
        })
        traceAccepted(options.tracing, accepted, enteredAt)
        return taken.length === batch
      })
    },
  })
}
