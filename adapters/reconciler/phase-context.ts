import { findPhase } from '../../flags/phases.ts'
import type { Phase, PhaseId } from '../../flags/phases.ts'
import type { PhaseEvidence } from '../../flags/reconcile-phase.ts'
import type { ReconcilerPhase } from '../../flags/reconciler.ts'
import type { Drain } from '../../flags/rollback.ts'
import { seamOf } from '../../flags/seams.ts'
import type { Seams } from '../../flags/seams.ts'
import type { Pool } from '../../runtime/postgres.ts'
import { ordersDrain } from '../orders/orders-drain.ts'
import { partnersDrain } from '../partners/partners-drain.ts'
import { statusesDrain } from '../statuses/statuses-drain.ts'

interface Databases extends Seams {
  readonly mes: Pool
}

export function drainOf(phase: PhaseId, pools: Databases): Drain {
  switch (phase) {
    case 'orders-direct':
      return ordersDrain(pools)
    case 'statuses-direct':
      return statusesDrain(pools)
    case 'partner-intake':
      return partnersDrain({ ...pools, intake: seamOf(findPhase(phase), pools) })
    default:
      return phase satisfies never
  }
}

/** Everything that moves one phase, for the reconciler and for a command that runs a round by itself. */
export function phaseContext(
  phase: Phase & { readonly id: PhaseId },
  pools: Databases,
  evidence: PhaseEvidence,
  approvalsNeeded: number,
): ReconcilerPhase {
  return {
    ledger: pools.ledger,
    seam: seamOf(phase, pools),
    phase: phase.id,
    evidence,
    approvalsNeeded,
    drain: drainOf(phase.id, pools),
  }
}
