import { StranglerError } from '../../contracts/errors.ts'
import { formatShare } from '../../contracts/path-share.ts'
import { approveStep } from '../../flags/approvals.ts'
import { findPhase } from '../../flags/phases.ts'
import { actOptions, readAct } from '../command-line/act.ts'
import type { Command } from '../command-line/command.ts'
import { parseDuration } from '../command-line/duration.ts'
import { readShare } from '../command-line/share.ts'

export const approve: Command = {
  name: 'approve',
  summary:
    "one person's word for a step, on the evidence as it is now; ends with a breach, a flip or by time",
  operands: ['<phase>'],
  options: {
    share: { type: 'string', says: 'the step, such as 50%; required' },
    for: { type: 'string', value: 'duration', says: 'how long it counts; default: 8h' },
    ...actOptions,
  },
  settings: ['LEDGER_URL'],
  exits: { 2: 'refused: a gate fails, or --share or --why is missing' },
  example: 'strangler approve orders-direct --share 50% --why "412 orders closed, none lost"',
  async run(invocation) {
    const { text } = invocation
    const phase = findPhase(invocation.positionals[0]!)
    const share = readShare(text('share'))
    if (share === undefined)
      throw new StranglerError('invalid_argument', '--share expected to name the step, got nothing')
    const act = readAct(invocation)
    const { epoch, evidence, expiresAt } = await approveStep(invocation.connections.ledger(), {
      phase: phase.id,
      share,
      forMs: parseDuration('for', text('for') ?? '8h'),
      ...act,
    })
    return {
      exitCode: 0,
      json: { phase: phase.id, share, epoch, evidence, expiresAt, ...act },
      text: `${act.who} approves ${formatShare(share)} of ${phase.id} at epoch ${epoch} until ${expiresAt.toISOString()}; evidence ${evidence.slice(0, 12)}`,
    }
  },
}
