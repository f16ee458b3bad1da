import { rollbackPhase } from '../../flags/phase-journal.ts'
import { findPhase } from '../../flags/phases.ts'
import type { Command } from '../command-line/command.ts'
import { parseDuration } from '../command-line/duration.ts'
import { identity } from '../command-line/identity.ts'
import { movedOutcome } from './advance.ts'

export const rollback: Command = {
  name: 'rollback',
  summary: 'sends new orders the old way again; needs no gate, safe to repeat',
  operands: ['<phase>'],
  options: {
    wait: {
      type: 'string',
      value: 'duration',
      says: 'for the last transaction of the old epoch; it is in force all the same; default: 30s',
    },
    who: { type: 'string', says: 'recorded in the journal; default: user@host' },
    why: { type: 'string', says: 'recorded in the journal; default: "rollback"' },
  },
  settings: ['LEDGER_URL', 'SHOP_URL'],
  exits: {
    3: 'in force, but an old transaction is still open, or the journal follows when the ledger is back; or the database of the seam does not answer',
  },
  example: 'strangler rollback orders-direct --why "prices differ"',
  async run({ positionals, text, connections }) {
    const phase = findPhase(positionals[0]!)
    const ledger = connections.ledger()
    const moved = await rollbackPhase({
      ledger,
      seam: phase.seam === 'shop' ? connections.shop() : ledger,
      phase: phase.id,
      completeWithinMs: parseDuration('wait', text('wait') ?? '30s'),
      who: text('who') ?? identity(),
      why: text('why') ?? 'rollback',
    })
    return movedOutcome(phase.id, moved, phase.rollback)
  },
}
