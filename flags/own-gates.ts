import { formatShare } from '../contracts/path-share.ts'
import type { Pool } from '../runtime/postgres.ts'
import { readApprovals } from './approvals.ts'
import type { GateResult } from './gates.ts'
import type { Settled } from './phase-journal.ts'
import type { PhaseId } from './phases.ts'
import { readReplicas } from './replicas.ts'

interface NextStep {
  readonly phase: PhaseId
  readonly settled: Pick<Settled, 'state' | 'wait'>
  /** The share that would be next. */
  readonly target: number
  readonly approvalsNeeded: number
}

/** The gates whose evidence is the journal's own. */
export async function judgeOwnGates(ledger: Pool, step: NextStep): Promise<GateResult[]> {
  return [await judgeReplicas(ledger, step), judgeDrain(step), await judgeApproval(ledger, step)]
}

async function judgeReplicas(
  ledger: Pool,
  { phase, settled }: { readonly phase: PhaseId; readonly settled: Pick<Settled, 'state'> },
): Promise<GateResult> {
  const { epoch } = settled.state
  const all = await readReplicas(ledger)
  const living = all.filter(({ lapsed }) => !lapsed)
  const behind = living.filter(({ epochs }) => (epochs[phase] ?? 0) < epoch)
  const silent = all.length - living.length
  const named = behind.map(({ kind, pid, host }) => `${kind} ${pid} on ${host}`).join(', ')
  return {
    gate: 'replicas',
    verdict: living.length > 0 && behind.length === 0 ? 'PASS' : 'INCONCLUSIVE',
    measured: `${living.length - behind.length} of ${living.length} on epoch ${epoch}`,
    needed: 'all, and at least 1',
    says:
      living.length === 0
        ? 'no process acknowledges epochs'
        : behind.length > 0
          ? `not yet on epoch ${epoch}: ${named}`
          : `all are on epoch ${epoch}${silent === 0 ? '' : `; ${silent} fell silent within the hour and have stopped by themselves`}`,
    orderIds: [],
    source: 'replica',
    unblock: living.length === 0 ? 'start relay, courier, bridge and applier' : undefined,
  }
}

function judgeDrain({
  phase,
  settled,
}: {
  phase: PhaseId
  settled: Pick<Settled, 'state' | 'wait'>
}): GateResult {
  const { state, wait } = settled
  const base = { gate: 'drain', orderIds: [], source: 'phase_journal' } as const
  const needed = 'the last flip complete'
  if (state.step !== 'complete' && state.step !== 'abandoned')
    return {
      ...base,
      verdict: 'INCONCLUSIVE',
      measured: `epoch ${state.epoch} is "${state.step}"`,
      needed,
      says: `${wait.heldBy ?? 'an older transaction'} may still decide under the old epoch`,
      unblock: undefined,
    }
  if (state.last?.verb === 'rollback' && state.share === 0 && state.rollback !== 'verified')
    return {
      ...base,
      verdict: 'INCONCLUSIVE',
      measured: `the rollback of epoch ${state.epoch} is "${state.rollback ?? 'complete'}"`,
      needed: 'its receipt',
      says: 'the last rollback has not been verified yet',
      unblock: `strangler rollback ${phase} says what is open`,
    }
  return {
    ...base,
    verdict: 'PASS',
    measured: `epoch ${state.epoch} is complete`,
    needed,
    says: 'nothing of an older epoch is left',
    unblock: undefined,
  }
}

async function judgeApproval(ledger: Pool, step: NextStep): Promise<GateResult> {
  const { phase, target, approvalsNeeded, settled } = step
  const base = { gate: 'approval', orderIds: [], source: 'approval' } as const
  if (approvalsNeeded === 0)
    return {
      ...base,
      verdict: 'PASS',
      measured: 'none asked for',
      needed: '0 people',
      says: 'no step needs an approval (APPROVALS_NEEDED)',
      unblock: undefined,
    }
  const found = await readApprovals(ledger, { phase, epoch: settled.state.epoch, share: target })
  const people = found.map(({ who }) => who)
  return {
    ...base,
    verdict: people.length >= approvalsNeeded ? 'PASS' : 'INCONCLUSIVE',
    measured: `${people.length} for ${formatShare(target)}`,
    needed: `${approvalsNeeded} people`,
    says: people.length === 0 ? 'nobody has approved it' : `approved by ${people.join(' and ')}`,
    unblock: `strangler approve ${phase} --share ${target / 100}% --why "..."`,
  }
}
