import { inOrder, type Service } from '../../runtime/lifecycle.ts'
import type { Log } from '../../runtime/log.ts'
import { pollLoop } from '../../runtime/poll-loop.ts'
import type { Pool } from '../../runtime/postgres.ts'
import { compareOrders } from './compare-orders.ts'
import { compareStatuses } from './compare-statuses.ts'

interface ShadowOptions {
  readonly ledger: Pool
  readonly shop: Pool
  readonly graceMs: number
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
export function shadow({ ledger, shop, graceMs, log }: ShadowOptions): Service {
  const loop = (name: string, key: number, work: () => Promise<boolean>): Service =>
    pollLoop({ name, log, idleMs: () => idleMs, work: () => alone(ledger, key, work) })
  return inOrder([
    loop('shadow-orders', 1, () => compareOrders(ledger)),
    loop('shadow-statuses', 2, () => compareStatuses({ ledger, shop, graceMs })),
  ])
}

/** Without a transaction: while a slow Shop DB is read, nothing in the ledger is held but the lock. */
async function alone(ledger: Pool, key: number, work: () => Promise<boolean>): Promise<boolean> {
  const client = await ledger.connect()
  let broken: Error | undefined
  const onError = (error: Error): void => {
    broken = error
  }
  client.on('error', onError)
  try {
    const { rows } = await client.query<{ mine: boolean }>(
      'SELECT pg_try_advisory_lock($1, $2) AS mine',
      [shadowLock, key],
    )
    return rows[0]!.mine && (await work())
  } finally {
    await client.query('SELECT pg_advisory_unlock_all()').catch(() => undefined)
    client.off('error', onError)
    client.release(broken)
  }
}
