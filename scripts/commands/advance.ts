import { setTimeout as pause } from 'node:timers/promises'

import { phaseContext } from '../../adapters/reconciler/phase-context.ts'
import { StranglerError } from '../../contracts/errors.ts'
import { formatShare } from '../../contracts/path-share.ts'
import { expressWish } from '../../flags/express-wish.ts'
import { isGuard, overall, readGates } from '../../flags/gates.ts'
import type { GateResult } from '../../flags/gates.ts'
import {
  admitOrders,
  advancePhase,
  phaseStatus,
  pinned,
  settlePhase,
} from '../../flags/phase-journal.ts'
import type { PhaseStatus } from '../../flags/phase-journal.ts'
import { findPhase, nextStep } from '../../flags/phases.ts'
import type { PhaseId } from '../../flags/phases.ts'
import { judgePhase, reconcilePhase } from '../../flags/reconcile-phase.ts'
import type { PhaseRound } from '../../flags/reconcile-phase.ts'
import type { ReconcilerPhase } from '../../flags/reconciler.ts'
import { readReplicas } from '../../flags/replicas.ts'
import { seamOf } from '../../flags/seams.ts'
import { readWish } from '../../flags/wish.ts'
import { actOptions, readAct } from '../command-line/act.ts'
import type { Command, Invocation, Outcome } from '../command-line/command.ts'
import { type CountedStep, countedOrders, readCountedStep } from '../command-line/counted-step.ts'
import { parseDuration } from '../command-line/duration.ts'
import { movedOutcome } from '../command-line/moved-outcome.ts'
import { readShare } from '../command-line/share.ts'
import { gateLines } from '../gates/gate-lines.ts'
import { openEvidence } from '../gates/judge-now.ts'

/** What no guard sees may pass: a process that its supervisor is just starting again, a slow moment of the proxy. */
const patienceMs = 10_000
const roundMs = 300

export const advance: Command = {
  name: 'advance',
  summary: 'raises the share of orders that go the new way, if every gate passes',
  operands: ['<phase>'],
  options: {
    share: {
      type: 'string',
      says: 'such as 10%, 2.5% or 0.1; without it, the next step of the phase',
    },
    first: {
      type: 'string',
      value: 'count',
      says: 'admit exactly so many orders more, and then hold',
    },
    partner: {
      type: 'string',
      value: 'id',
      says: 'with --first, of partner-intake: orders of this partner alone',
    },
    wait: {
      type: 'string',
      value: 'duration',
      says: 'how long to wait for gates that have not enough evidence yet; default: 30s',
    },
    'dry-run': { type: 'boolean', says: 'judge the gates now, and change nothing' },
    force: {
      type: 'boolean',
      says: 'whatever the gates say; recorded in the journal. A pin it does not lift',
    },
    ...actOptions,
  },
  settings: ['LEDGER_URL', 'SHOP_URL', 'MES_URL', 'INTAKE_URL'],
  exits: {
    2: 'refused: a gate fails, the phase is pinned, a lower share, an unknown phase or partner, or somebody else moved it meanwhile',
    3: 'a gate has not enough evidence yet; or in force, but an old transaction is still open; or a database does not answer',
  },
  example: 'strangler advance orders-direct --share 10% --why "CRM is 40 minutes behind"',
  async run(invocation) {
    const { text, flag, positionals, connections } = invocation
    const phase = findPhase(positionals[0]!)
    const share = readShare(text('share'))
    const counted = await readCountedStep(invocation, phase)
    if (share !== undefined && counted !== undefined)
      throw new StranglerError('invalid_argument', '--share and --first exclude each other')
    if (flag('force') && flag('dry-run'))
      throw new StranglerError('invalid_argument', '--force and --dry-run exclude each other')
    const waitMs = parseDuration('wait', text('wait') ?? '30s')
    const act = flag('dry-run') ? { who: '', why: '' } : readAct(invocation)
    const seams = connections.seams()
    const { ledger } = seams
    const seam = seamOf(phase, seams)
    const before = await phaseStatus({ ledger, seam, phase: phase.id })
    const wanted = share ?? nextStep(phase, before.share) ?? before.share

    if (flag('force')) {
      const forced = { ledger, seam, phase: phase.id, who: act.who, why: `${act.why} (forced)` }
      // First, or a reconciler would lower it again meanwhile.
      const failed =
        counted === undefined
          ? await expressWish(connections.wishPlace(), phase.id, wanted, act).then(
              () => undefined,
              (error: unknown) => (error instanceof Error ? error.message : String(error)),
            )
          : undefined
      const moved =
        counted === undefined
          ? await advancePhase({ ...forced, share: wanted, completeWithinMs: waitMs })
          : await admitOrders({
              ...forced,
              tokens: counted.first,
              partner: counted.partner,
              completeWithinMs: waitMs,
            })
      const effect = counted === undefined ? phase.advance : admitted(counted)
      const outcome = movedOutcome(phase.id, moved, effect)
      if (failed === undefined) return outcome
      return { ...outcome, text: `${outcome.text}\nthe wish stays what it was: ${failed}` }
    }

    const evidence = openEvidence(connections, invocation.log)
    try {
      const context = phaseContext(
        phase,
        { ...seams, mes: connections.mes() },
        evidence,
        connections.approvalsNeeded(),
      )
      if (flag('dry-run')) return await dryRun(context, before)
      if (counted === undefined) refuseLower(before, wanted)
      if (before.pin !== undefined && (counted !== undefined || wanted > before.share)) {
        const lowered =
          counted === undefined && (await lowerWishOf(connections, phase.id, wanted, act))
        const note = lowered ? `; ${formatShare(wanted)} is wanted from now on, no longer more` : ''
        throw new StranglerError('refused', `${pinned(before.phase, before.pin)}${note}`)
      }
      const asked = { invocation, context, phase, before, wanted, waitMs, act }
      return await (counted === undefined ? rise(asked) : admit(asked, counted))
    } finally {
      await evidence.close()
    }
  },
}

interface Asked {
  readonly invocation: Invocation
  readonly context: ReconcilerPhase
  readonly phase: ReturnType<typeof findPhase>
  readonly before: PhaseStatus
  readonly wanted: number
  readonly waitMs: number
  readonly act: { readonly who: string; readonly why: string }
}

function admitted(counted: CountedStep): string {
  return `exactly ${countedOrders(counted)} more, and then it holds`
}

/** A breach leaves the wish that led there: resumed, the phase would go for all of it before anybody can say less. */
async function lowerWishOf(
  connections: Invocation['connections'],
  phase: PhaseId,
  wanted: number,
  act: Asked['act'],
): Promise<boolean> {
  const wish = await readWish(connections.ledger(), phase)
  if (wish?.share === undefined || wish.share <= wanted) return false
  await expressWish(connections.wishPlace(), phase, wanted, act)
  return true
}

function refuseLower(before: PhaseStatus, wanted: number): void {
  if (wanted < before.share)
    throw new StranglerError(
      'refused',
      `${before.phase} stands at ${formatShare(before.share)}, ${formatShare(wanted)} is less; ` +
        `the way back is "strangler rollback ${before.phase}"`,
    )
}

/** Raises the wish, and sees it through: as far as the gates allow, a step at a time. */
async function rise({
  invocation,
  context,
  phase,
  before,
  wanted,
  waitMs,
  act,
}: Asked): Promise<Outcome> {
  const { connections, log } = invocation
  // Its settings decide, not those of whoever types: how many must approve, how much evidence is enough.
  const lives = await reconcilerLives(context)
  if (connections.wishPlace().unleash !== undefined && !lives)
    throw new StranglerError(
      'refused',
      'no reconciler runs, so nobody would hear the wish: start adapters/reconciler/main.ts, and say it again',
    )
  await expressWish(connections.wishPlace(), phase.id, wanted, act)
  const started = performance.now()
  let said = ''
  for (;;) {
    const round = lives
      ? await look(context, wanted)
      : await reconcilePhase(context).catch(onlyConflicts)
    const inForce = round?.did === 'moved' ? round.moved.share : round?.share
    if (inForce === wanted) return await done(context, before, wanted, waitMs)
    if (round?.did === 'rolled back')
      throw new StranglerError('refused', `rolled back by itself, breach of ${round.breach}`)
    if (round?.did === 'pinned') throw new StranglerError('refused', pinned(phase.id, round.pin))
    const elapsed = performance.now() - started
    if (round?.did === 'blocked') {
      const failed = round.by.filter(({ verdict }) => verdict === 'FAIL')
      const hopeless = failed.some(({ gate }) => isGuard(gate)) || elapsed > patienceMs
      if (failed.length > 0 && hopeless) return blocked(phase.id, round, 2)
      const line = round.by.map(({ gate, verdict }) => `${verdict} ${gate}`).join(', ')
      if (line !== said) log.info('waiting', { for: line })
      said = line
    }
    if (elapsed > waitMs) return notInTime(phase.id, round, wanted)
    await pause(roundMs)
  }
}

/** What the reconciler makes of the wish. */
async function look(context: ReconcilerPhase, wanted: number): Promise<PhaseRound> {
  const { ledger, phase } = context
  const { share, epoch, pin } = await phaseStatus({ ledger, seam: undefined, phase })
  const gates = await readGates(ledger, phase)
  const round = { share, epoch, gates }
  if (share === wanted) return { ...round, did: 'nothing' }
  if (pin !== undefined) return { ...round, did: 'pinned', wanted, pin }
  const by = gates.filter(({ verdict }) => verdict !== 'PASS')
  return by.length === 0 ? { ...round, did: 'nothing' } : { ...round, did: 'blocked', wanted, by }
}

async function reconcilerLives({ ledger }: ReconcilerPhase): Promise<boolean> {
  const found = await readReplicas(ledger)
  return found.some(({ kind, lapsed }) => kind === 'reconciler' && !lapsed)
}

/** Somebody else moves the phase at the same time: the next round sees what became of it. */
function onlyConflicts(error: unknown): undefined {
  if (error instanceof StranglerError && error.code === 'epoch_conflict') return undefined
  throw error
}

/** The rounds do not wait for old transactions; this does, once. It moves nothing: what somebody lowered meanwhile stays lowered. */
async function done(
  context: ReconcilerPhase,
  before: PhaseStatus,
  wanted: number,
  waitMs: number,
): Promise<Outcome> {
  const { state, wait } = await settlePhase({ ...context, completeWithinMs: waitMs })
  if (state.share !== wanted)
    throw new StranglerError(
      'epoch_conflict',
      `${context.phase} was at ${formatShare(wanted)}, and is at ${formatShare(state.share)} now; look at "strangler status"`,
    )
  const moved = {
    changed: before.share !== wanted,
    epoch: state.epoch,
    share: wanted,
    shareBefore: before.share,
    tokens: undefined,
    partner: undefined,
    journaled: true,
    ...wait,
  }
  return movedOutcome(context.phase, moved, findPhase(context.phase).advance)
}

async function admit(
  { context, phase, before, waitMs, act }: Asked,
  counted: CountedStep,
): Promise<Outcome> {
  const round = (await reconcilerLives(context))
    ? { epoch: before.epoch, gates: await readGates(context.ledger, phase.id) }
    : await judgePhase(context).then(({ state, gates }) => ({ epoch: state.epoch, gates }))
  if (overall(round.gates) !== 'PASS')
    return blocked(
      phase.id,
      round,
      overall(round.gates) === 'FAIL' ? 2 : 3,
      'nothing was changed: say it again once they pass',
    )
  const moved = await admitOrders({
    ...context,
    tokens: counted.first,
    partner: counted.partner,
    atEpoch: round.epoch,
    completeWithinMs: waitMs,
    ...act,
  })
  return movedOutcome(phase.id, moved, admitted(counted))
}

async function dryRun(context: ReconcilerPhase, before: PhaseStatus): Promise<Outcome> {
  const { gates } = await judgePhase(context)
  const verdict = overall(gates)
  return {
    exitCode: verdict === 'PASS' ? 0 : verdict === 'FAIL' ? 2 : 3,
    json: { phase: context.phase, share: before.share, verdict, gates },
    text: [...gates.flatMap(gateLines), '', `${verdict}; nothing was changed`].join('\n'),
  }
}

function blocked(
  phase: string,
  round: { readonly gates: readonly GateResult[]; readonly by?: readonly GateResult[] },
  exitCode: 2 | 3,
  next = 'the wish stands, and a reconciler carries it out once they pass; "strangler hold" stops that',
): Outcome {
  const by = round.by ?? round.gates.filter(({ verdict }) => verdict !== 'PASS')
  return {
    exitCode,
    json: { phase, blocked: true, gates: round.gates },
    text: [`${phase} does not rise:`, ...by.flatMap(gateLines), '', next].join('\n'),
  }
}

function notInTime(phase: string, round: PhaseRound | undefined, wanted: number): Outcome {
  if (round?.did === 'blocked') return blocked(phase, round, overall(round.by) === 'FAIL' ? 2 : 3)
  return {
    exitCode: 3,
    json: { phase, blocked: false, wanted, share: round?.share },
    text: `${phase} is not at ${formatShare(wanted)} yet; "strangler watch" shows how it goes on`,
  }
}
