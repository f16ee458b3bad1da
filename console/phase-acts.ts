import { approveStep } from '../flags/approvals.ts'
import { expressWish, withdrawWish } from '../flags/express-wish.ts'
import { killPhase, rollbackPhase } from '../flags/phase-journal.ts'
import { findPhase } from '../flags/phases.ts'
import type { PhaseId } from '../flags/phases.ts'
import { holdPhase, resumePhase } from '../flags/pin.ts'
import { seamOf } from '../flags/seams.ts'
import type { UnleashAdmin } from '../flags/unleash/unleash-admin.ts'
import type { Log } from '../runtime/log.ts'
import type { ConsoleDatabases } from './phase-view.ts'

/** What a person may do to a phase. Each notes in the timeline what it did; one that throws has done nothing, or says what. */
export interface PhaseActs {
  /** Sets the wish; the reconciler moves as far as the gates allow. */
  advance(phase: PhaseId, share: number, who: string, why: string): Promise<void>
  hold(phase: PhaseId, who: string, why: string): Promise<void>
  resume(phase: PhaseId, who: string, why: string): Promise<void>
  /** In force when it returns; the reconciler drains, hands over and verifies. */
  rollback(phase: PhaseId, who: string, why: string): Promise<void>
  kill(phase: PhaseId, who: string, why: string): Promise<void>
  approve(phase: PhaseId, share: number, who: string, why: string): Promise<void>
}

/** An approval counts for a shift. */
const approvedForMs = 8 * 3_600_000

export function phaseActs(
  seams: ConsoleDatabases,
  unleash: UnleashAdmin | undefined,
  log: Log,
): PhaseActs {
  const { ledger } = seams
  const place = { ledger, unleash }
  return {
    advance: (phase, share, who, why) => expressWish(place, phase, share, { who, why }),
    async hold(phase, who, why) {
      await holdPhase(ledger, phase, { who, why })
    },
    async resume(phase, who, why) {
      await resumePhase(ledger, phase, { who, why })
    },
    async rollback(phase, who, why) {
      const seam = seamOf(findPhase(phase), seams)
      await rollbackPhase({ ledger, seam, phase, who, why, completeWithinMs: 5000 })
      const failed = await withdrawWish(place, phase, { who, why })
      if (failed !== undefined) log.warn('wish_not_withdrawn', { phase, reason: failed })
    },
    async kill(phase, who, why) {
      await killPhase({
        ledger,
        seam: seamOf(findPhase(phase), seams),
        phase,
        who,
        why,
        completeWithinMs: 0,
      })
    },
    async approve(phase, share, who, why) {
      await approveStep(ledger, {
        phase,
        share,
        who,
        why,
        forMs: approvedForMs,
      })
    },
  }
}
