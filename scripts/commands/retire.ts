import { createHash } from 'node:crypto'

import { readRetireEvidence } from '../../adapters/retire/legacy-evidence.ts'
import { reasonsNotToRetire } from '../../adapters/retire/reasons-not-to-retire.ts'
import { findPhase } from '../../flags/phases.ts'
import { noteEvent } from '../../flags/timeline.ts'
import { columns } from '../command-line/columns.ts'
import type { Command } from '../command-line/command.ts'
import { formatDuration, parseDuration } from '../command-line/duration.ts'
import { identity } from '../command-line/identity.ts'

export const retire: Command = {
  name: 'retire',
  summary: 'proves that the legacy way of a phase is dead, and records the proof',
  operands: ['<phase>'],
  options: {
    quiet: {
      type: 'string',
      value: 'duration',
      says: 'so long nothing may have used the legacy way; default: 7d',
    },
    who: { type: 'string', says: 'recorded with the proof; default: user@host' },
  },
  settings: ['LEDGER_URL', 'SHOP_URL', 'MES_URL', 'INTAKE_URL'],
  exits: {
    0: 'proved, and recorded with the hashes of the evidence',
    2: 'refused: every reason is told, stragglers by name',
    3: 'a database does not answer',
  },
  example: 'strangler retire orders-direct --quiet 7d',
  async run({ positionals, text, connections }) {
    const phase = findPhase(positionals[0]!).id
    const quietMs = parseDuration('quiet', text('quiet') ?? '7d')
    const ledger = connections.ledger()
    const evidence = await readRetireEvidence(
      { ...connections.seams(), mes: connections.mes() },
      phase,
    )
    const reasons = reasonsNotToRetire(evidence, quietMs)
    const { hashes, legacyOrders, lastSeen } = evidence
    if (reasons.length > 0) {
      return {
        exitCode: 2,
        json: { phase, retired: false, reasons, stragglers: evidence.stragglers },
        text: [`${phase} can not be retired:`, ...reasons.map((reason) => `  ${reason}`)].join(
          '\n',
        ),
      }
    }
    const report = { quietMs, legacyOrders, lastSeen, evidence: hashes }
    const sha256 = createHash('sha256').update(JSON.stringify(hashes)).digest('hex')
    const says = `retired: ${legacyOrders} legacy orders are closed, and nothing has used the legacy way for ${formatDuration(quietMs)}`
    await noteEvent(ledger, {
      phase,
      kind: 'retire',
      who: text('who') ?? identity(),
      says,
      detail: { ...report, sha256 },
    })
    return {
      exitCode: 0,
      json: { phase, retired: true, ...report, sha256 },
      text: [
        `${phase} ${says}`,
        columns(
          lastSeen.map(({ what, ageMs, orderId }) => [
            `last ${what}`,
            ageMs === undefined ? 'never' : `${formatDuration(ageMs)} ago`,
            orderId ?? '',
          ]),
          '  ',
        ),
        'evidence, sha256 of its rows:',
        columns(
          hashes.map(({ what, rows, sha256: each }) => [what, `${rows} rows`, each]),
          '  ',
        ),
        `recorded in phase_event under ${sha256}`,
      ].join('\n'),
    }
  },
}
