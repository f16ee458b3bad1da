import {
  recordedDecisions,
  readStaying,
  seedInForce,
} from '../../adapters/plan/recorded-decisions.ts'
import type { Staying } from '../../adapters/plan/recorded-decisions.ts'
import { replayDecisions } from '../../adapters/plan/replay-decisions.ts'
import type { Replayed } from '../../adapters/plan/replay-decisions.ts'
import { StranglerError } from '../../contracts/errors.ts'
import { formatShare, parseShare } from '../../contracts/path-share.ts'
import type { GateResult } from '../../flags/gates.ts'
import { readPhase } from '../../flags/phase-state.ts'
import { findPhase, nextStep } from '../../flags/phases.ts'
import type { Command } from '../command-line/command.ts'
import { parseDuration } from '../command-line/duration.ts'
import { gateLines } from '../gates/gate-lines.ts'
import { judgeNow } from '../gates/judge-now.ts'

/** All are counted; so many are listed. */
const listed = 1000

export const plan: Command = {
  name: 'plan',
  summary: 'what a share would do to the orders of the last hours; changes nothing',
  operands: ['<phase>'],
  options: {
    share: {
      type: 'string',
      says: 'such as 10%, 2.5% or 0.1; without it, the next step of the phase',
    },
    since: {
      type: 'string',
      value: 'duration',
      says: 'replays the decisions recorded within it; default: 24h',
    },
  },
  settings: [
    'LEDGER_URL',
    'SHOP_URL',
    'MES_URL',
    'INTAKE_URL',
    'SHOP_DOOR',
    'SHOP_UPSTREAM',
    'GATE_MINIMUM',
  ],
  exits: { 0: 'told; gates may be red', 3: 'the ledger or the Shop DB does not answer' },
  example: 'strangler plan orders-direct --share 10% --since 7d',
  async run({ positionals, text, connections, log }) {
    const phase = findPhase(positionals[0]!)
    const windowMs = parseDuration('since', text('since') ?? '24h')
    const given = givenShare(text('share'))
    const from = connections.seams()
    const inForce = (await readPhase(from.ledger, phase.id)).share
    const share = given ?? nextStep(phase, inForce) ?? inForce
    const seed = await seedInForce(from, phase.id)
    const decisions = await recordedDecisions(from, phase.id, windowMs)
    const replayed = replayDecisions(decisions, { share, seed, windowMs })
    const staying = await readStaying(from, phase.id)
    const gates = await judgeNow(connections, phase.id, log)
    const counts = {
      wouldGoDirect: replayed.wouldGoDirect.length,
      wouldMove: replayed.wouldMove.length,
      wouldFallBack: replayed.wouldFallBack.length,
    }
    return {
      exitCode: 0,
      json: {
        phase: phase.id,
        inForce,
        share,
        windowMs,
        ...replayed,
        wouldGoDirect: replayed.wouldGoDirect.slice(0, listed),
        wouldMove: replayed.wouldMove.slice(0, listed),
        wouldFallBack: replayed.wouldFallBack.slice(0, listed),
        counts,
        listedAll: Math.max(...Object.values(counts)) <= listed,
        staying,
        gates,
      },
      text: forPeople(
        { phase: phase.id, effect: phase.advance, inForce, share, since: text('since') ?? '24h' },
        replayed,
        staying,
        gates,
      ),
    }
  },
}

function givenShare(given: string | undefined): number | undefined {
  const share = given === undefined ? undefined : parseShare(given)
  if (given === undefined || share !== undefined) return share
  throw new StranglerError(
    'invalid_argument',
    `--share expected to be from 0% to 100% in steps of 0.01%, such as 10% or 0.1, got ${given}`,
  )
}

function forPeople(
  asked: { phase: string; effect: string; inForce: number; share: number; since: string },
  replayed: Replayed,
  staying: Staying,
  gates: readonly GateResult[],
): string {
  const { phase, effect, inForce, share, since } = asked
  const { orders, wouldGoDirect, wouldMove, wouldFallBack, perHour } = replayed
  const red = gates.filter(({ verdict }) => verdict !== 'PASS')
  const part = orders === 0 ? '' : `, ${((100 * wouldGoDirect.length) / orders).toFixed(2)} %`
  const tokens = replayed.byToken === 0 ? '' : ` (${replayed.byToken} of them by a token)`
  const lines = [
    `${phase}: ${formatShare(inForce)} in force, planned ${formatShare(share)}; nothing is changed`,
    `of ${orders} orders decided in the last ${since}: ${replayed.legacy} legacy, ${replayed.direct} direct${tokens}`,
    `at ${formatShare(share)}: ${wouldGoDirect.length} direct${part}; ${wouldMove.length} that went through CRM would not`,
  ]
  if (wouldFallBack.length > 0)
    lines.push(`${wouldFallBack.length} that went direct would go through CRM`)
  lines.push(
    `orders an hour: ${perHour.legacy.toFixed(1)} legacy and ${perHour.direct.toFixed(1)} direct now, ` +
      `${perHour.directThen.toFixed(1)} direct then, ${replayed.peakDirectPerMinute} in the busiest minute`,
    `${staying.onLegacy} open orders are on the legacy path and finish there` +
      (staying.undecided === 0 ? '' : `; ${staying.undecided} are not decided yet`),
    effect,
    '',
    red.length === 0 ? 'every gate is PASS' : `${red.length} gates would not let it pass:`,
    ...red.flatMap(gateLines),
  )
  return lines.join('\n')
}
