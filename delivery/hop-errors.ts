import type { Path } from '../contracts/order.ts'
import type { Pool } from '../runtime/postgres.ts'

/** What stands still in a hop until somebody or some evidence settles it. */
export interface HopErrors {
  readonly hop: string
  readonly path: Path
  readonly errors: number
  /** Such as `2 dead, 1 in doubt`. */
  readonly says: string
}

/** By the names of hops that `bottleneck` has; a hop that is not there has none that could be seen. */
export async function hopErrors(ledger: Pool): Promise<HopErrors[]> {
  const { rows } = await ledger.query<{ hop: string; path: Path; what: string; count: number }>(
    // An arm for each partial index.
    `SELECT 'queue' AS hop, path, 'dead' AS what, count(*)::int AS count FROM order_ledger WHERE state = 'dead' GROUP BY path
     UNION ALL
     SELECT 'queue', path, 'in doubt', count(*)::int FROM order_ledger
     WHERE state = 'in_doubt' AND state NOT IN ('delivered', 'dead', 'cancelled') GROUP BY path
     UNION ALL
     SELECT 'bridge ' || b.queue, coalesce(l.path, 'legacy'), b.state, count(*)::int
     FROM bridge_inbox b LEFT JOIN order_ledger l ON l.order_id = b.order_id WHERE b.state IN ('held', 'parked') GROUP BY 1, 2, 3
     UNION ALL
     SELECT 'parked status', 'direct', 'parked', count(*)::int FROM status_inbox WHERE state = 'parked' HAVING count(*) > 0
     ORDER BY 1, 2, 3`,
  )
  const found = new Map<string, HopErrors>()
  for (const { hop, path, what, count } of rows) {
    const key = `${hop} ${path}`
    const before = found.get(key)
    const says = `${count} ${what}`
    found.set(key, {
      hop,
      path,
      errors: (before?.errors ?? 0) + count,
      says: before === undefined ? says : `${before.says}, ${says}`,
    })
  }
  return [...found.values()]
}
