import type { Pool } from '../runtime/postgres.ts'
import { lifeLockClass, takenOver } from './life-lock.ts'
import { repinPhase } from './repin-statuses.ts'

export interface Violation {
  readonly invariant: string
  readonly orderIds: string[]
}

/**
 * What the ledger alone can be asked about its owners, at any time. Orders of the window ($1, milliseconds); those that a courier
 * holds whatever their age.
 */
const checks: readonly { readonly invariant: string; readonly sql: string }[] = [
  {
    invariant: 'whoever holds an order has taken an owner id',
    sql: `SELECT order_id FROM order_ledger l
          WHERE state = 'sending' AND NOT EXISTS (SELECT FROM courier_owner o WHERE o.owner_id = l.owner_id)`,
  },
  {
    // An owner id is never given twice: one that lives now lived then.
    invariant: 'nothing is taken over from a courier that lives',
    sql: `SELECT DISTINCT e.order_id FROM order_event e JOIN pg_locks k ON k.objid = (e.detail ->> 'from')::bigint::oid
          WHERE e.hop = '${takenOver}' AND e.at >= clock_timestamp() - $1::float8 * interval '1 millisecond'
            AND k.locktype = 'advisory' AND k.granted AND k.classid = ${lifeLockClass} AND k.objsubid = 2
            AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
  },
  {
    invariant: 'no order is sent once more without a record of why',
    sql: `SELECT order_id FROM order_ledger l
          WHERE gen > 0 AND accepted_at >= clock_timestamp() - $1::float8 * interval '1 millisecond'
            AND gen > (SELECT count(*) FROM order_event e
                       WHERE e.order_id = l.order_id AND (e.hop = 'redrive' OR (e.hop = 'in doubt' AND e.detail ->> 'settled' <> 'delivered')))
                    + (SELECT count(*) FROM handover h WHERE h.order_id = l.order_id AND h.phase <> '${repinPhase}')`,
  },
]

export async function ledgerViolations(
  ledger: Pick<Pool, 'query'>,
  windowMs = 86_400_000,
): Promise<Violation[]> {
  const found: Violation[] = []
  for (const { invariant, sql } of checks) {
    const { rows } = await ledger.query<{ order_id: string }>(
      sql,
      sql.includes('$1') ? [windowMs] : [],
    )
    if (rows.length > 0) found.push({ invariant, orderIds: rows.map((row) => row.order_id) })
  }
  return found
}
