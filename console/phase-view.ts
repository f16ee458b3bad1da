import { readApprovals } from '../flags/approvals.ts'
import type { Approval } from '../flags/approvals.ts'
import { overall, readGates } from '../flags/gates.ts'
import type { JudgedGate, Verdict } from '../flags/gates.ts'
import { phaseStatus } from '../flags/phase-journal.ts'
import type { PhaseStatus } from '../flags/phase-journal.ts'
import { migrationSeed, nextStep } from '../flags/phases.ts'
import type { Phase, PhaseId } from '../flags/phases.ts'
import { readReplicas } from '../flags/replicas.ts'
import type { Replica } from '../flags/replicas.ts'
import { seamOf } from '../flags/seams.ts'
import type { Seams } from '../flags/seams.ts'
import { readWish } from '../flags/wish.ts'
import type { StoredWish } from '../flags/wish.ts'
import type { Pool } from '../runtime/postgres.ts'

/** Orders of this phase's two paths that are under way, and what the last day's would have done. */
export interface PhaseOrders {
  readonly direct: number
  readonly legacy: number
  /** Of at most so many orders, the latest of the last day. */
  readonly sampled: number
  readonly directAtNextStep: number
}

export interface PhaseView {
  readonly phase: Phase & { readonly id: PhaseId }
  readonly status: PhaseStatus
  readonly wish: StoredWish | undefined
  readonly gates: readonly JudgedGate[]
  readonly verdict: Verdict
  readonly replicas: readonly Replica[]
  /** That hold for the present epoch. */
  readonly approvals: readonly Approval[]
  readonly nextShare: number | undefined
  readonly orders: PhaseOrders
}

export type ConsoleDatabases = Seams

const sampledOrders = 20_000

export async function readPhaseView(
  seams: ConsoleDatabases,
  phase: PhaseView['phase'],
): Promise<PhaseView> {
  const { ledger } = seams
  const seam = seamOf(phase, seams)
  const [status, wish, gates, replicas] = await Promise.all([
    phaseStatus({ ledger, seam, phase: phase.id }),
    readWish(ledger, phase.id),
    readGates(ledger, phase.id),
    readReplicas(ledger),
  ])
  const nextShare = nextStep(phase, status.share)
  const [approvals, orders] = await Promise.all([
    readApprovals(ledger, { phase: phase.id, epoch: status.epoch, share: 0 }),
    readOrders(ledger, phase.id, nextShare ?? status.share),
  ])
  const verdict = overall(gates)
  return {
    phase,
    status,
    wish,
    gates,
    verdict,
    replicas,
    approvals,
    nextShare,
    orders,
  }
}

/** Of phases 1 and 3 an order is under way until the MES has it, of phase 2 until it is closed. */
const underWay = {
  'orders-direct': `SELECT count(*) FILTER (WHERE path = 'direct')::int AS direct, count(*) FILTER (WHERE path = 'legacy')::int AS legacy
    FROM order_ledger WHERE origin = 'shop' AND state NOT IN ('delivered', 'dead', 'cancelled')`,
  'statuses-direct': `SELECT count(*) FILTER (WHERE l.status_path = 'direct')::int AS direct, count(*) FILTER (WHERE l.status_path = 'legacy')::int AS legacy
    FROM order_ledger l WHERE l.status_path IS NOT NULL
      AND NOT EXISTS (SELECT FROM bridge_inbox b WHERE b.order_id = l.order_id AND b.routing_key = 'order.closed')`,
  'partner-intake': `SELECT count(*) FILTER (WHERE path = 'direct')::int AS direct, count(*) FILTER (WHERE path = 'legacy')::int AS legacy
    FROM order_ledger WHERE origin <> 'shop' AND state NOT IN ('delivered', 'dead', 'cancelled')`,
} as const satisfies Record<PhaseId, string>

async function readOrders(ledger: Pool, phase: PhaseId, share: number): Promise<PhaseOrders> {
  const counts = await ledger.query<{ direct: number; legacy: number }>(underWay[phase])
  const { rows } = await ledger.query<{ sampled: number; directAtNextStep: number }>(
    `SELECT count(*)::int AS sampled, count(*) FILTER (WHERE strangler.bucket(order_id, $3) < $1)::int AS "directAtNextStep"
     FROM (SELECT order_id FROM order_ledger WHERE accepted_at > clock_timestamp() - interval '1 day'
           ORDER BY accepted_at DESC LIMIT $2) recent`,
    [share, sampledOrders, migrationSeed],
  )
  return { ...counts.rows[0]!, ...rows[0]! }
}
