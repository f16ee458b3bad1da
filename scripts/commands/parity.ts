import {
  shadowedFields,
  shadowReport,
  type ShadowReport,
} from '../../adapters/partners/shadow-report.ts'
import { createdFields } from '../../adapters/shadow/compare-created.ts'
import { toCompare, waitingToCompare } from '../../adapters/shadow/to-compare.ts'
import type { ShadowedPhase, Waiting } from '../../adapters/shadow/to-compare.ts'
import { submittedFields } from '../../adapters/wire/compare-submitted.ts'
import { shopWriteFields } from '../../adapters/wire/shop-write.ts'
import { StranglerError } from '../../contracts/errors.ts'
import { acceptDifference, differingFields, parityReport } from '../../delivery/parity-report.ts'
import type { ParityReport, Until } from '../../delivery/parity-report.ts'
import type { Pool } from '../../runtime/postgres.ts'
import type { Command, Invocation, Outcome } from '../command-line/command.ts'
import { differenceLines } from '../command-line/difference-lines.ts'
import { formatDuration, parseDuration } from '../command-line/duration.ts'
import { identity } from '../command-line/identity.ts'
import { nearest } from '../command-line/nearest.ts'
import { openShadow, shadowLines } from '../command-line/shadow-lines.ts'

const fields: Readonly<Record<ShadowedPhase, readonly string[]>> = {
  'orders-direct': submittedFields,
  'statuses-direct': shopWriteFields,
  'partner-intake': createdFields,
}

/** So long nothing waits where a shadow works: CRM has a minute for its write. */
const standstillMs = 300_000

export const parity: Command = {
  name: 'parity',
  summary: 'what we would have done of all that went through CRM, against what CRM did',
  operands: ['<phase>'],
  options: {
    since: {
      type: 'string',
      value: 'duration',
      says: 'only differences found within it, such as 2h or 7d; counts are of whole days (UTC)',
    },
    accept: {
      type: 'string',
      value: 'field',
      says: 'records that a field may differ; needs --until and --why, and ends by itself',
    },
    until: {
      type: 'string',
      value: 'time',
      says: 'with --accept: 14d, 2026-12-31 (its begin, UTC) or 2026-12-31T18:00:00Z',
    },
    why: { type: 'string', value: 'text', says: 'with --accept: recorded, and required' },
    who: { type: 'string', value: 'name', says: 'with --accept: recorded; default: user@host' },
  },
  settings: ['LEDGER_URL', 'INTAKE_URL'],
  exits: {
    0: 'no difference that is not accepted; or the acceptance is recorded',
    1: 'there are differences',
    2: 'refused: no such phase or field, a time that is over, or no reason',
    3: 'nothing is compared yet, or the ledger does not answer',
  },
  example: 'strangler parity statuses-direct --since 1d',
  async run(invocation) {
    const { positionals, text, connections } = invocation
    const phase = shadowed(positionals[0]!)
    const ledger = connections.ledger()
    if (text('accept') !== undefined) return accept(invocation, ledger, phase)
    for (const option of ['until', 'why', 'who']) {
      if (text(option) !== undefined) refuse(`--${option} only goes with --accept`)
    }
    const since = text('since')
    const sinceMs = since === undefined ? undefined : parseDuration('since', since)
    const report = await parityReport(ledger, phase, sinceMs)
    const waiting = await waitingToCompare(ledger, phase)
    const shadow = shadows(invocation, phase)
      ? await shadowReport({ intake: connections.intake(), ledger }, { sinceMs })
      : undefined
    const differs =
      report.fields.some(({ accepted }) => accepted === undefined) ||
      openShadow(shadow ?? []).length > 0
    const compared = report.compared > 0 || (shadow ?? []).some((each) => each.compared > 0)
    const verdict = differs ? 'differences' : compared ? 'same' : 'nothing compared'
    return {
      exitCode: verdict === 'same' ? 0 : verdict === 'differences' ? 1 : 3,
      json: {
        verdict,
        sinceMs: sinceMs ?? null,
        ...report,
        waiting,
        ...(shadow !== undefined && { shadow }),
      },
      text: forPeople(report, waiting, since, shadow),
    }
  },
}

/** Of partners' calls the proxies have a shadow too, and its books are in the intake's database. */
function shadows({ connections }: Invocation, phase: ShadowedPhase): boolean {
  return phase === 'partner-intake' && connections.isSet('INTAKE_URL')
}

async function accept(
  invocation: Invocation,
  ledger: Pool,
  phase: ShadowedPhase,
): Promise<Outcome> {
  const { text, connections } = invocation
  const field = text('accept')!
  if (text('since') !== undefined) refuse('--since does not go with --accept')
  const until = text('until')
  if (until === undefined)
    refuse('--until expected to be a time such as 14d or 2026-12-31, got nothing')
  const why = text('why')?.trim() ?? ''
  if (why === '') refuse('--why expected to say why the difference is wanted, got nothing')
  const answered = shadows(invocation, phase) ? await shadowedFields(connections.intake()) : []
  const differing = await differingFields(ledger, phase)
  const known = [...new Set([...fields[phase], ...differing, ...answered])]
  if (!known.includes(field)) {
    const near = nearest(field, known)
    const hint = near === undefined ? '' : `; did you mean ${near}?`
    refuse(`--accept expected to be one of ${known.join(', ')}, got ${field}${hint}`)
  }
  const who = text('who') ?? identity()
  const accepted = await acceptDifference(ledger, {
    phase,
    field,
    until: readUntil(until),
    why,
    who,
  })
  if (accepted === undefined) refuse(`--until expected to be a time to come, got ${until}`)
  return {
    exitCode: 0,
    json: { phase, field, until: accepted, why, who },
    text: `differences in ${field} of ${phase} are accepted until ${accepted.toISOString()}, says ${who}`,
  }
}

function readUntil(text: string): Until {
  const date = /^(\d{4}-\d\d-\d\d)(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$/.exec(text)
  if (date === null) return { inMs: parseDuration('until', text) }
  const day = new Date(`${date[1]}T00:00:00Z`)
  const at = new Date(text)
  // JavaScript makes the 2nd of March of a 30th of February.
  const exists = !Number.isNaN(day.getTime()) && day.toISOString().startsWith(date[1]!)
  if (!exists || Number.isNaN(at.getTime()))
    refuse(`--until expected to be a date that exists, got ${text}`)
  return { at }
}

function shadowed(phase: string): ShadowedPhase {
  if (phase === 'orders-direct' || phase === 'statuses-direct' || phase === 'partner-intake')
    return phase
  throw new StranglerError(
    'not_found',
    `a shadow of ${phase}; there is one of ${Object.keys(toCompare).join(' and ')}`,
  )
}

function refuse(detail: string): never {
  throw new StranglerError('invalid_argument', detail)
}

function forPeople(
  report: ParityReport,
  waiting: Waiting,
  since: string | undefined,
  shadow: readonly ShadowReport[] | undefined,
): string {
  const { phase, compared, differing, differingOrders } = report
  const open = report.fields.filter(({ accepted }) => accepted === undefined)
  const lines = [
    `${phase}${since === undefined ? '' : `, the last ${since}`}: ${compared} messages compared, ${differing} differ` +
      (since === undefined ? '' : ' (of whole days)'),
    waitingLine(waiting),
  ]
  for (const field of report.fields) {
    const counted = `${field.field}: ${field.differences} differences in ${field.orders} orders`
    lines.push('', ...differenceLines(counted, field))
  }
  if (shadow !== undefined) lines.push('', ...shadowLines(shadow))
  lines.push('')
  const inAnswers = openShadow(shadow ?? [])
  const nothing = compared === 0 && (shadow ?? []).every((each) => each.compared === 0)
  if (open.length > 0)
    lines.push(
      `DIFFERENCES in ${open.map(({ field }) => field).join(', ')}: ${differingOrders} orders`,
    )
  if (inAnswers.length > 0) lines.push(`DIFFERENCES in answers: ${inAnswers.join(', ')}`)
  if (open.length + inAnswers.length > 0) return lines.join('\n')
  if (nothing) lines.push('nothing is compared yet, so nothing can be said')
  else {
    const accepted = [report, ...(shadow ?? [])].some((each) => each.fields.length > 0)
    lines.push(accepted ? 'no difference but accepted ones' : 'no difference')
  }
  return lines.join('\n')
}

function waitingLine({ messages, more, oldestMs }: Waiting): string {
  if (messages === 0 || oldestMs === undefined) return 'none waits to be compared'
  const line = `${messages}${more ? ' or more' : ''} wait to be compared, the oldest for ${formatDuration(oldestMs)}`
  return oldestMs > standstillMs ? `${line}: is there a shadow that runs?` : line
}
