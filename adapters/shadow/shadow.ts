import type { Compared } from '../../delivery/parity-book.ts'
import { inOrder, type Service } from '../../runtime/lifecycle.ts'
import type { Log } from '../../runtime/log.ts'
import { pollLoop } from '../../runtime/poll-loop.ts'
import { holdingLock, type Pool } from '../../runtime/postgres.ts'
import { compareCreated } from './compare-created.ts'
import { compareOrders } from './compare-orders.ts'
import { compareStatuses } from './compare-statuses.ts'
import type { ShadowedPhase } from './to-compare.ts'

interface ShadowOptions {
  readonly ledger: Pool
  readonly shop: Pool
  /** Undefined where there is no partner intake. */
  readonly intake: Pool | undefined
  readonly graceMs: number
  readonly onCompared?: (phase: ShadowedPhase, compared: Compared) => void
  readonly log: Log
}

/** First key of the advisory locks in the ledger that make one shadow work; the second is the comparison. */
const shadowLock = 48
const idleMs = 500

/**
 * Looks on while the legacy carries: what we would have done of every message that went through CRM, against what CRM did. Each
 * comparison is done by one process at a time, in rounds of a bounded batch; booking one twice changes nothing, so the lock
 * saves work and carries no correctness. A comparison that can't go on holds up only itself.
 */
export function shadow({ ledger, shop, intake, graceMs, onCompared, log }: ShadowOptions): Service {
  const loop = (name: string, key: number, work: () => Promise<boolean>): Service =>
    pollLoop({ name, log, idleMs: () => idleMs, work: () => alone(ledger, key, work) })
  return inOrder([
    loop('shadow-orders', 1, () =>
      compareOrders(ledger, (compared) => onCompared?.('orders-direct', compared)),
    ),
    loop('shadow-statuses', 2, () =>
      compareStatuses({
        ledger,
        shop,
        graceMs,
        onCompared: (compared) => onCompared?.('statuses-direct', compared),
      }),
    ),
    ...(intake === undefined
      ? []
      : [
          loop('shadow-partners', 3, () =>
            compareCreated({ ledger, intake }, (compared) =>
              onCompared?.('partner-intake', compared),
            ),
          ),
        ]),
  ])
}

/** Without a transaction: while a slow Shop DB is read, nothing in the ledger is held but the lock. */
async function alone(ledger: Pool, key: number, work: () => Promise<boolean>): Promise<boolean> {
  return (await holdingLock(ledger, [shadowLock, key], work)) ?? false
}
