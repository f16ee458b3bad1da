import { formatShare } from '../../contracts/path-share.ts'
import { phaseStatus } from '../../flags/phase-journal.ts'
import { findPhase } from '../../flags/phases.ts'
import { holdPhase } from '../../flags/pin.ts'
import { actOptions, readAct } from '../command-line/act.ts'
import type { Command } from '../command-line/command.ts'

export const hold: Command = {
  name: 'hold',
  summary: 'keeps a phase where it is, whatever is wished; its guards stay armed',
  operands: ['<phase>'],
  options: actOptions,
  settings: ['LEDGER_URL'],
  example: 'strangler hold orders-direct --why "the MES is being updated"',
  async run(invocation) {
    const phase = findPhase(invocation.positionals[0]!)
    const act = readAct(invocation)
    const ledger = invocation.connections.ledger()
    const before = await holdPhase(ledger, phase.id, act)
    const { share, epoch } = await phaseStatus({ ledger, seam: undefined, phase: phase.id })
    const stands = `${phase.id} stays at ${formatShare(share)} (epoch ${epoch})`
    return {
      exitCode: 0,
      json: { phase: phase.id, share, epoch, changed: before === undefined, pinnedBefore: before },
      text:
        before === undefined
          ? `${stands}; a lower wish and a breach still take it back; on it goes with: strangler resume ${phase.id}`
          : `${stands}: pinned already by "${before.kind}" of ${before.who} ("${before.why}")`,
    }
  },
}
