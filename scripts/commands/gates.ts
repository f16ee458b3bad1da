import { overall, readGates } from '../../flags/gates.ts'
import type { GateResult, JudgedGate, Verdict } from '../../flags/gates.ts'
import { findPhase } from '../../flags/phases.ts'
import type { Command, ExitCode } from '../command-line/command.ts'
import { formatDuration, parseDuration } from '../command-line/duration.ts'
import { gateLines } from '../gates/gate-lines.ts'
import { judgeNow } from '../gates/judge-now.ts'

const exitCodes: Readonly<Record<Verdict, ExitCode>> = { PASS: 0, FAIL: 1, INCONCLUSIVE: 3 }

export const gates: Command = {
  name: 'gates',
  summary: 'judges every gate of a phase now, and changes nothing',
  operands: ['<phase>'],
  options: {
    stored: {
      type: 'boolean',
      says: 'what the reconciler has found instead, with its age',
    },
    'max-age': {
      type: 'string',
      value: 'duration',
      says: 'with --stored: what is older is inconclusive; default: 30s',
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
    'GATE_WINDOW',
  ],
  exits: {
    0: 'every gate is PASS',
    1: 'a gate is FAIL',
    3: 'none is FAIL, and one is INCONCLUSIVE: a source does not answer, or the evidence is too little',
  },
  example: 'strangler gates orders-direct',
  async run({ positionals, flag, text, connections, log }) {
    const phase = findPhase(positionals[0]!).id
    const stored = flag('stored')
    const maxAgeMs = parseDuration('max-age', text('max-age') ?? '30s')
    const results: readonly (GateResult & Partial<JudgedGate>)[] = stored
      ? await readGates(connections.ledger(), phase, maxAgeMs)
      : await judgeNow(connections, phase, log)
    const verdict = overall(results)
    return {
      exitCode: exitCodes[verdict],
      json: { phase, verdict, stored, gates: results },
      text: [
        ...results.flatMap((result) => {
          const [line, ...more] = gateLines(result)
          return [`${line}${ageOf(result)}`, ...more]
        }),
        '',
        `${phase}: ${verdict}`,
      ].join('\n'),
    }
  },
}

function ageOf({ ageMs, since }: Partial<JudgedGate>): string {
  if (ageMs === undefined) return ''
  const standing = since === undefined ? '' : `, so since ${since.toISOString()}`
  return `, ${formatDuration(ageMs)} ago${standing}`
}
