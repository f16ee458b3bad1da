import { killPhase } from '../../flags/phase-journal.ts'
import { findPhase } from '../../flags/phases.ts'
import { seamOf } from '../../flags/seams.ts'
import { actOptions, readAct } from '../command-line/act.ts'
import type { Command } from '../command-line/command.ts'
import { movedOutcome } from '../command-line/moved-outcome.ts'

export const kill: Command = {
  name: 'kill',
  summary:
    'sends new orders the old way again, at once and without asking anything; pins the phase',
  operands: ['<phase>'],
  options: actOptions,
  settings: ['LEDGER_URL', 'SHOP_URL', 'INTAKE_URL'],
  exits: {
    3: 'in force by the route alone: the ledger does not answer, and its journal follows; or the database of the seam does not answer',
  },
  example: 'strangler kill orders-direct --why "the MES shows wrong prices"',
  async run(invocation) {
    const { connections } = invocation
    const phase = findPhase(invocation.positionals[0]!)
    const act = readAct(invocation)
    const seams = connections.seams()
    const moved = await killPhase({
      ledger: seams.ledger,
      seam: seamOf(phase, seams),
      phase: phase.id,
      // In force with its commit; who is still open is for a rollback to wait for.
      completeWithinMs: 0,
      ...act,
    })
    const { exitCode, json, text } = movedOutcome(phase.id, moved, phase.rollback)
    return {
      exitCode: moved.journaled ? 0 : exitCode,
      json,
      text: `${text}\npinned until "strangler resume ${phase.id}"; what is under way stays on its path: "strangler rollback ${phase.id}" drains it`,
    }
  },
}
