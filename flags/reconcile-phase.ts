import { formatShare } from '../contracts/path-share.ts'
import { voidApprovals } from './approvals.ts'
import { isGuard, overall, recordGates } from './gates.ts'
import type { GateResult } from './gates.ts'
import { judgeOwnGates } from './own-gates.ts'
import { advancePhase, lowerPhase, rollbackPhase, settlePhase } from './phase-journal.ts'
import type { Databases, Moved } from './phase-journal.ts'
import { readPhase } from './phase-state.ts'
import type { PhaseState, Pin } from './phase-state.ts'
import { findPhase, nextStep } from './phases.ts'
import type { PhaseId } from './phases.ts'
import { noteEvent } from './timeline.ts'
import { readWish } from './wish.ts'
import type { StoredWish } from './wish.ts'

/** Judges what is not the journal's own; never throws: what can't be read is INCONCLUSIVE. */
export interface PhaseEvidence {
  judge(phase: PhaseId): Promise<readonly GateResult[]>
}

export interface Reconciling extends Databases {
  readonly phase: PhaseId
  readonly evidence: PhaseEvidence
  readonly approvalsNeeded: number
}

/** What one round did, and what stands in the way. */
export type PhaseRound = {
  readonly share: number
  readonly epoch: number
  readonly gates: readonly GateResult[]
} & (
  | { readonly did: 'nothing' }
  | { readonly did: 'moved'; readonly moved: Moved }
  /** A guard failed while a share was direct. */
  | { readonly did: 'rolled back'; readonly moved: Moved; readonly breach: string }
  /** Wanted is more than in force. */
  | { readonly did: 'blocked'; readonly wanted: number; readonly by: readonly GateResult[] }
  | { readonly did: 'pinned'; readonly wanted: number; readonly pin: Pin }
  | { readonly did: 'unknown'; readonly reason: string }
)

/**
 * One round of moving what is in force towards what is wished. Anybody may run it, also two at once: the journal's
 * compare-and-swap lets one of them move.
 *
 *   1 end what a crash left half done
 *   2 a lower wish is followed at once, also by a pinned phase, whatever the gates say and however long they take
 *   3 judge every gate, and store the verdicts
 *   4 a guard that fails takes the phase back, and pins it
 *   5 a higher one by one step, if every gate passes and nothing is pinned; unknown is not 0 %
 */
export async function reconcilePhase(options: Reconciling): Promise<PhaseRound> {
  const { ledger, phase } = options
  const lowered = await lowerAtOnce(options)
  if (lowered !== undefined) return lowered
  const { state, gates, wish, target } = await judgePhase(options)
  const round = { share: state.share, epoch: state.epoch, gates }
  const act = { ...options, completeWithinMs: 0 }

  const broken = gates.filter(
    ({ gate, verdict, legacyOnly }) => isGuard(gate) && verdict === 'FAIL' && legacyOnly !== true,
  )
  if (broken.length > 0) {
    const breach = broken.map(({ gate, says }) => `${gate}: ${says}`).join('; ')
    await voidApprovals(ledger, phase, `breach of ${breach}`)
    // A counted step has let orders in at a share of 0.
    if (state.share > 0 || (state.tokens !== undefined && state.pin?.kind === 'hold')) {
      const moved = await rollbackPhase({ ...act, who: 'strangler', why: `breach of ${breach}` })
      await noteEvent(ledger, {
        phase,
        kind: 'breach',
        who: 'strangler',
        says: `${formatShare(state.share)} -> 0 %: ${breach}`,
        detail: { epoch: moved.epoch, orders: broken.flatMap(({ orderIds }) => orderIds) },
      })
      return { ...round, did: 'rolled back', moved, breach }
    }
  }

  if (wish === undefined) return { ...round, did: 'nothing' }
  if (wish.share === undefined) return { ...round, did: 'unknown', reason: wish.reason ?? '' }
  const by = { who: wish.who, why: wish.why }
  // A lower one came while the gates were judged: the next round.
  if (wish.share <= state.share) return { ...round, did: 'nothing' }
  if (state.pin !== undefined)
    return { ...round, did: 'pinned', wanted: wish.share, pin: state.pin }
  if (overall(gates) !== 'PASS')
    return {
      ...round,
      did: 'blocked',
      wanted: wish.share,
      by: gates.filter(({ verdict }) => verdict !== 'PASS'),
    }
  return {
    ...round,
    did: 'moved',
    moved: await advancePhase({ ...act, ...by, share: target, atEpoch: state.epoch }),
  }
}

async function lowerAtOnce(options: Reconciling): Promise<PhaseRound | undefined> {
  const { ledger, phase } = options
  const wish = await readWish(ledger, phase)
  const { share, epoch } = await readPhase(ledger, phase)
  if (wish?.share === undefined || wish.share >= share) return undefined
  const by = { who: wish.who, why: wish.why, share: wish.share }
  const moved = await lowerPhase({ ...options, ...by, completeWithinMs: 0 })
  return { share, epoch, gates: [], did: 'moved', moved }
}

interface Judged {
  readonly state: PhaseState
  readonly wish: StoredWish | undefined
  /** The next step towards the wish. */
  readonly target: number
  readonly gates: readonly GateResult[]
}

/** The first two steps of a round: moves nothing. */
export async function judgePhase(options: Reconciling): Promise<Judged> {
  const { ledger, phase } = options
  const settled = await settlePhase({ ...options, completeWithinMs: 0 })
  const { state } = settled
  const wish = await readWish(ledger, phase)
  const target = nextTarget(phase, state.share, wish?.share ?? state.share)
  const gates = [
    ...(await options.evidence.judge(phase)),
    ...(await judgeOwnGates(ledger, { ...options, settled, target })),
  ]
  await recordGates(ledger, phase, gates)
  return { state, wish, target, gates }
}

/** Step by step: each earns the evidence for the next. */
function nextTarget(phase: PhaseId, share: number, wanted: number): number {
  if (wanted <= share) return wanted
  return Math.min(wanted, nextStep(findPhase(phase), share) ?? wanted)
}
