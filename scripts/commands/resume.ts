import { formatShare } from '../../contracts/path-share.ts'
import { phaseStatus } from '../../flags/phase-journal.ts'
import { findPhase } from '../../flags/phases.ts'
import { resumePhase } from '../../flags/pin.ts'
import { readWish } from '../../flags/wish.ts'
import { actOptions, readAct } from '../command-line/act.ts'
import type { Command } from '../command-line/command.ts'

export const resume: Command = {
  name: 'resume',
  summary:
    'lifts a hold, a rollback or a kill: the phase follows the wish again, as its gates allow',
  operands: ['<phase>'],
  options: actOptions,
  settings: ['LEDGER_URL'],
  example: 'strangler resume orders-direct --why "prices are right again"',
  async run(invocation) {
    const phase = findPhase(invocation.positionals[0]!)
    const act = readAct(invocation)
    const ledger = invocation.connections.ledger()
    const pin = await resumePhase(ledger, phase.id, act)
    const { share, epoch } = await phaseStatus({ ledger, seam: undefined, phase: phase.id })
    const wish = await readWish(ledger, phase.id)
    const lines = [
      pin === undefined
        ? `${phase.id} was not pinned; nothing changed`
        : `${phase.id}: "${pin.kind}" of ${pin.who} ("${pin.why}") is lifted`,
      `${formatShare(share)} in force, epoch ${epoch}`,
    ]
    if (wish?.share !== undefined && wish.share > share)
      lines.push(`wanted are ${formatShare(wish.share)}: it rises as its gates allow`)
    return {
      exitCode: 0,
      json: { phase: phase.id, share, epoch, changed: pin !== undefined, lifted: pin, wish },
      text: lines.join('\n'),
    }
  },
}
