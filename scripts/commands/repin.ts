import { repin as moveStatuses } from '../../adapters/statuses/repin.ts'
import type { RepinResult } from '../../adapters/statuses/repin.ts'
import { StranglerError } from '../../contracts/errors.ts'
import { repinPhase } from '../../delivery/repin-statuses.ts'
import { noteEvent } from '../../flags/timeline.ts'
import { actOptions, readAct } from '../command-line/act.ts'
import type { Command, ExitCode } from '../command-line/command.ts'
import { parseDuration } from '../command-line/duration.ts'

const paths = ['legacy', 'direct'] as const
type Wanted = (typeof paths)[number]

/** The hand-over of statuses. An order's own path has one in `rollback`: there every order that can be handed over is. */
export const repin: Command = {
  name: 'repin',
  summary:
    'moves the statuses of an order, or of all that are not shipped, to CRM or back to us; safe to repeat',
  operands: ['<order|all>'],
  options: {
    to: {
      type: 'string',
      value: 'path',
      says: 'legacy (CRM writes them to the Shop DB again) or direct; default: legacy',
    },
    drain: {
      type: 'string',
      value: 'duration',
      says: 'how long what is open may still be applied, or reach CRM, first; default: 30s',
    },
    ...actOptions,
  },
  settings: ['LEDGER_URL', 'SHOP_URL', 'BROKER_URL', 'AMQP_MANAGEMENT_URL'],
  exits: {
    0: 'all of them are on that path, and so is what an earlier run had begun',
    1: 'some stay until a person has decided a parked status; they are named',
    2: 'refused: no such order, no status of it has come or none is to come, or (to direct) the bridge is not inserted',
    3: 'some stay for now: a status of them is in hand, or under way to CRM; say it again',
  },
  example:
    'strangler repin all --to legacy --why "will never be shipped, the toolkit is taken out"',
  async run(invocation) {
    const { positionals, text, connections, log } = invocation
    const which = positionals[0]!
    const act = { to: wantedPath(text('to') ?? 'legacy'), ...readAct(invocation) }
    const withinMs = parseDuration('drain', text('drain') ?? '30s')
    const ledger = connections.ledger()
    const repinning = {
      ...act,
      ledger,
      shop: connections.shop(),
      broker: () => connections.broker(),
      withinMs,
      onProgress: (says: string) => log.info('repin', { says }),
    }
    const result = await moveStatuses(repinning, which === 'all' ? undefined : which)
    const { moved, carriedOn } = result
    if (moved + carriedOn > 0) {
      await noteEvent(ledger, {
        phase: repinPhase,
        kind: 'repin',
        who: act.who,
        says: `${which} to ${act.to}, ${inWords(result)}: ${act.why}`,
        detail: { ...result },
      })
    }
    return {
      exitCode: exitCodeOf(result),
      json: { ...result, who: act.who, why: act.why },
      text: [
        `statuses to ${act.to}: ${inWords(result)}`,
        ...result.notYet.map(({ orderId, says }) => `stays: ${orderId}, ${says}`),
        ...(result.left > 0 ? ['say it again: nothing is done twice'] : []),
      ].join('\n'),
    }
  },
}

function wantedPath(word: string): Wanted {
  const path = paths.find((each) => each === word)
  if (path !== undefined) return path
  throw new StranglerError(
    'invalid_argument',
    `--to expected to be ${paths.join(' or ')}, got ${word}`,
  )
}

function inWords({ moved, carriedOn, statusesToCrm, left }: RepinResult): string {
  return [
    `${moved} moved`,
    ...(carriedOn > 0 ? [`${carriedOn} of an earlier run carried on`] : []),
    ...(statusesToCrm > 0 ? [`${statusesToCrm} waiting statuses go to CRM`] : []),
    ...(left > 0 ? [`${left} stay`] : []),
  ].join(', ')
}

function exitCodeOf({ left, leftFor }: RepinResult): ExitCode {
  if (left === 0) return 0
  return leftFor.some((because) => because !== 'parked') ? 3 : 1
}
