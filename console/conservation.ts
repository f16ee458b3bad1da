import type { Path } from '../contracts/order.ts'
import type { JudgedGate } from '../flags/gates.ts'
import type { Pool } from '../runtime/postgres.ts'
import { ago } from './words.ts'

/** Every accepted order of a path is in exactly one of these. */
export interface PathCount {
  readonly path: Path
  readonly accepted: number
  readonly closed: number
  /** In the MES, and not closed yet. */
  readonly inWork: number
  /** Not in the MES yet, as far as is known. */
  readonly onItsWay: number
  /** Maybe in the MES: waits for evidence. */
  readonly inDoubt: number
  /** Refused for good; a person must look. */
  readonly dead: number
  readonly cancelled: number
}

export async function countOrders(ledger: Pool): Promise<PathCount[]> {
  const { rows } = await ledger.query<PathCount>(
    `WITH closed AS (SELECT DISTINCT order_id FROM bridge_inbox WHERE routing_key = 'order.closed'),
     counted AS (
       SELECT l.path, count(*) AS accepted,
         count(*) FILTER (WHERE c.order_id IS NOT NULL) AS closed,
         count(*) FILTER (WHERE c.order_id IS NULL AND l.state = 'delivered') AS in_work,
         count(*) FILTER (WHERE c.order_id IS NULL AND l.state IN ('accepted', 'sending')) AS on_its_way,
         count(*) FILTER (WHERE c.order_id IS NULL AND l.state = 'in_doubt') AS in_doubt,
         count(*) FILTER (WHERE c.order_id IS NULL AND l.state = 'dead') AS dead,
         count(*) FILTER (WHERE c.order_id IS NULL AND l.state = 'cancelled') AS cancelled
       FROM order_ledger l LEFT JOIN closed c ON c.order_id = l.order_id GROUP BY l.path)
     SELECT p.path, coalesce(accepted, 0)::float8 AS accepted, coalesce(closed, 0)::float8 AS closed,
       coalesce(in_work, 0)::float8 AS "inWork", coalesce(on_its_way, 0)::float8 AS "onItsWay",
       coalesce(in_doubt, 0)::float8 AS "inDoubt", coalesce(dead, 0)::float8 AS dead, coalesce(cancelled, 0)::float8 AS cancelled
     FROM (VALUES ('legacy'), ('direct')) p(path) LEFT JOIN counted USING (path)`,
  )
  return rows
}

/** How many accepted orders nobody can say the place of. `unknown` is not 0. */
export type Unexplained =
  | { readonly is: 'none'; readonly says: string }
  /** The first of them; a gate names no more than twenty. */
  | { readonly is: 'some'; readonly orderIds: readonly string[]; readonly says: string }
  | { readonly is: 'unknown'; readonly says: string }

/**
 * By the conservation gates alone, for they compare with the Shop DB and the MES. One that fails counts, whatever the others say;
 * 0 needs every one of them, and fresh.
 */
export function unexplainedOf(
  gates: readonly { readonly phase: string; readonly gate: JudgedGate | undefined }[],
): Unexplained {
  const failed = gates.filter(({ gate }) => gate?.verdict === 'FAIL')
  if (failed.length > 0)
    return {
      is: 'some',
      orderIds: [...new Set(failed.flatMap(({ gate }) => gate?.orderIds ?? []))],
      says: failed.map(({ phase, gate }) => `${phase}: ${gate?.says ?? ''}`).join('; '),
    }
  const open = gates.filter(({ gate }) => gate?.verdict !== 'PASS')
  if (open.length > 0 || gates.length === 0)
    return {
      is: 'unknown',
      says: open.map(({ phase, gate }) => `${phase}: ${gate?.says ?? 'no gate'}`).join('; '),
    }
  const oldest = Math.max(...gates.map(({ gate }) => gate?.ageMs ?? 0))
  return {
    is: 'none',
    says: `every accepted order is in the MES or on its way, on both sides of the ledger; looked at ${ago(oldest)}`,
  }
}
