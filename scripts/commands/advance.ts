import { setTimeout as pause } from 'node:timers/promises'

import { StranglerError } from '../../contracts/errors.ts'
import { formatShare, parseShare } from '../../contracts/path-share.ts'
import { advancePhase, phaseStatus } from '../../flags/phase-journal.ts'
import type { Moved } from '../../flags/phase-journal.ts'
import { findPhase, nextStep } from '../../flags/phases.ts'
import type { PhaseId } from '../../flags/phases.ts'
import type { Command, Outcome } from '../command-line/command.ts'
import type { Connections } from '../command-line/connections.ts'
import { parseDuration } from '../command-line/duration.ts'
import { identity } from '../command-line/identity.ts'
import { missingForOrders, readRunning } from '../doctor/running.ts'
import { missingForStatuses, readStatusesRunning } from '../doctor/statuses-running.ts'

const patienceMs = 10_000

export const advance: Command = {
  name: 'advance',
  summary: 'raises the share of orders that go the new way',
  operands: ['<phase>'],
  options: {
    share: {
      type: 'string',
      says: 'such as 10%, 2.5% or 0.1; without it, the next step of the phase',
    },
    wait: {
      type: 'string',
      value: 'duration',
      says: 'for the last transaction of the old epoch; it is in force all the same; default: 30s',
    },
    force: {
      type: 'boolean',
      says: 'although a part of the new way is not there; recorded in the journal',
    },
    who: { type: 'string', says: 'recorded in the journal; default: user@host' },
    why: { type: 'string', says: 'recorded in the journal; default: "advance to <share>"' },
  },
  settings: ['LEDGER_URL', 'SHOP_URL'],
  exits: {
    2: 'refused: a part of the new way is missing, a lower share, an unknown phase, or somebody else moved it meanwhile',
    3: 'in force, but an old transaction is still open; or a database does not answer',
  },
  example: 'strangler advance orders-direct --share 10% --why "CRM is 40 minutes behind"',
  async run({ positionals, text, flag, connections }) {
    const phase = findPhase(positionals[0]!)
    const given = givenShare(text('share'))
    const ledger = connections.ledger()
    const databases = { ledger, seam: phase.seam === 'shop' ? connections.shop() : ledger }
    const inForce = (await phaseStatus({ ...databases, phase: phase.id })).share
    const share = given ?? nextStep(phase, inForce) ?? inForce
    const missing = share > inForce ? await missingParts(phase.id, connections) : []
    if (missing.length > 0 && !flag('force')) {
      throw new StranglerError(
        'refused',
        `${missing.join(', ')}; see "strangler doctor", or say it with --force`,
      )
    }
    const forced = missing.length === 0 ? '' : ` (forced: ${missing.join(', ')})`
    const moved = await advancePhase({
      ...databases,
      phase: phase.id,
      share,
      completeWithinMs: parseDuration('wait', text('wait') ?? '30s'),
      who: text('who') ?? identity(),
      why: `${text('why') ?? `advance to ${formatShare(share)}`}${forced}`,
    })
    return movedOutcome(phase.id, moved, phase.advance)
  },
}

/** A process that a supervisor is just starting again is given the time to come back. */
async function missingParts(phase: PhaseId, connections: Connections): Promise<string[]> {
  const [ledger, shop] = [connections.ledger(), connections.shop()]
  const deadline = performance.now() + patienceMs
  for (;;) {
    const { parts, processes } =
      phase === 'statuses-direct'
        ? missingForStatuses(await readStatusesRunning(ledger, shop))
        : missingForOrders(await readRunning(ledger, shop))
    if (parts.length > 0 || processes.length === 0 || performance.now() > deadline)
      return [...parts, ...processes]
    await pause(250)
  }
}

function givenShare(given: string | undefined): number | undefined {
  if (given === undefined) return undefined
  const share = parseShare(given)
  if (share !== undefined) return share
  throw new StranglerError(
    'invalid_argument',
    `--share expected to be from 0% to 100% in steps of 0.01%, such as 10% or 0.1, got ${given}`,
  )
}

export function movedOutcome(phase: string, moved: Moved, effect: string): Outcome {
  const lines = moved.changed
    ? [
        `${phase}: ${formatShare(moved.shareBefore)} -> ${formatShare(moved.share)}, in force since epoch ${moved.epoch}`,
        effect,
      ]
    : [
        `${phase}: stands at ${formatShare(moved.share)} already (epoch ${moved.epoch}); nothing changed`,
      ]
  if (moved.complete) {
    if (moved.changed)
      lines.push(
        `complete after ${moved.waitedMs.toFixed(1)} ms: every transaction that was open at the flip has ended`,
      )
  } else {
    lines.push(
      `not complete yet: ${moved.heldBy ?? 'a transaction that is older than the flip'} may still decide under the old epoch; ` +
        'say it again when that has ended, nothing is done twice',
    )
  }
  if (!moved.journaled)
    lines.push(
      'the ledger does not answer: this is in force by the route in the Shop DB; the journal follows when the ledger is back',
    )
  const exitCode = moved.complete && moved.journaled ? 0 : 3
  return { exitCode, json: { phase, ...moved }, text: lines.join('\n') }
}
