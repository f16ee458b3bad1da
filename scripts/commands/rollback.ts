import { drainOf } from '../../adapters/reconciler/phase-context.ts'
import { withdrawWish } from '../../flags/express-wish.ts'
import { rollbackPhase } from '../../flags/phase-journal.ts'
import { findPhase } from '../../flags/phases.ts'
import { continueRollback, receiptInWords } from '../../flags/rollback.ts'
import type { Receipt } from '../../flags/rollback.ts'
import { seamOf } from '../../flags/seams.ts'
import { actOptions, readAct } from '../command-line/act.ts'
import type { Command, ExitCode } from '../command-line/command.ts'
import { formatDuration, parseDuration } from '../command-line/duration.ts'
import { movedOutcome } from '../command-line/moved-outcome.ts'

export const rollback: Command = {
  name: 'rollback',
  summary:
    'sends new orders the old way again, empties the new way, and proves it; needs no gate, safe to repeat',
  operands: ['<phase>'],
  options: {
    drain: {
      type: 'string',
      value: 'duration',
      says: 'how long what is under way may finish on the direct path before the rest is handed over; default: 30s',
    },
    settle: {
      type: 'string',
      value: 'duration',
      says: 'how long, after that, to wait for what may have been sent; default: 60s',
    },
    ...actOptions,
  },
  settings: ['LEDGER_URL', 'SHOP_URL', 'MES_URL', 'INTAKE_URL'],
  exits: {
    0: 'in force, drained and verified: the receipt says what became of every order',
    1: 'in force, but an order is lost or doubled; it is named',
    3: 'in force, but something is in hand or in doubt, or the journal follows when the ledger is back; say it again',
  },
  example: 'strangler rollback orders-direct --why "prices differ"',
  async run(invocation) {
    const { text, connections, log } = invocation
    const phase = findPhase(invocation.positionals[0]!)
    const act = readAct(invocation)
    const drainWithinMs = parseDuration('drain', text('drain') ?? '30s')
    const settleWithinMs = parseDuration('settle', text('settle') ?? '60s')
    const seams = connections.seams()
    const databases = { ledger: seams.ledger, seam: seamOf(phase, seams), phase: phase.id }

    const moved = await rollbackPhase({ ...databases, ...act, completeWithinMs: drainWithinMs })
    const flip = movedOutcome(phase.id, moved, phase.rollback)
    if (!moved.journaled) return flip
    const wish = await withdrawWish(connections.wishPlace(), phase.id, act)
    const receipt = await continueRollback({
      ...databases,
      drain: drainOf(phase.id, { ...seams, mes: connections.mes() }),
      drainWithinMs,
      settleWithinMs,
      onProgress: (line) => log.info('rollback', { phase: phase.id, says: line }),
    })
    if (receipt === undefined) return flip
    return {
      exitCode: exitCodes[receipt.outcome],
      json: { ...moved, phase: phase.id, receipt, wish },
      text: [flip.text, '', receiptText(receipt), ...(wish === undefined ? [] : [wish])].join('\n'),
    }
  },
}

const exitCodes: Readonly<Record<Receipt['outcome'], ExitCode>> = {
  verified: 0,
  differs: 1,
  open: 3,
}

function receiptText(receipt: Receipt): string {
  const head = `receipt of epoch ${receipt.epoch}, ${formatDuration(receipt.tookMs)} after the flip: `
  const lines = [`${head}${receiptInWords(receipt)}`]
  lines.push(...(receipt.unsettled ?? []).map((each) => `${each}; "strangler statuses" lists it`))
  switch (receipt.outcome) {
    case 'verified':
      lines.push(`verified; pinned until "strangler resume ${receipt.phase}"`)
      break
    case 'open':
      lines.push(
        ...receipt.underWay.inDoubt.map(
          (id) => `in doubt: ${id}; evidence may still settle it, or "strangler settle ${id}"`,
        ),
        `not verified yet: say it again, nothing is done twice`,
      )
      break
    case 'differs':
      lines.push('"strangler reconcile" says more, and what can be done')
      break
    default:
      receipt.outcome satisfies never
  }
  return lines.join('\n')
}
