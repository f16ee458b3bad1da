import { wholeShare } from '../../contracts/path-share.ts'
import { parityReport } from '../../delivery/parity-report.ts'
import type { ParityReport } from '../../delivery/parity-report.ts'
import type { GateResult } from '../../flags/gates.ts'
import type { PhaseId } from '../../flags/phases.ts'
import type { Pool } from '../../runtime/postgres.ts'
import { waitingToCompare } from '../shadow/to-compare.ts'
import type { Waiting } from '../shadow/to-compare.ts'
import { fail, inconclusive, notSound, pass, seconds, some, unsound } from './verdict.ts'

export interface ParityEvidence {
  readonly report: Pick<ParityReport, 'compared' | 'differing' | 'differingOrders' | 'fields'>
  readonly waiting: Waiting
  readonly shadows: number
  /** In force. At the whole share nothing is legacy any more that could be compared. */
  readonly share: number
  /** The last day on which anything was compared, of UTC. */
  readonly lastDay: string | undefined
}

/** So long nothing waits where a shadow works: CRM has a minute for its write. */
export const standstillMs = 300_000

export async function readParity(
  ledger: Pool,
  phase: PhaseId,
  share: number,
  windowMs: number,
): Promise<ParityEvidence> {
  const { rows } = await ledger.query<{ shadows: number; day: string | null; age: number | null }>(
    `SELECT (SELECT count(*)::int FROM pg_stat_activity WHERE application_name = 'strangler-shadow') AS shadows,
       d.day::text AS day, extract(epoch FROM clock_timestamp() - ((d.day + 1)::timestamp AT TIME ZONE 'UTC'))::float8 * 1000 AS age
     FROM (SELECT max(day) AS day FROM parity_count WHERE phase = $1 AND compared > 0) d`,
    [phase],
  )
  const { shadows, day, age } = rows[0]!
  // Where all is direct the window ends with the last day of comparing instead of now.
  const back = share === wholeShare ? Math.max(0, age ?? 0) : 0
  const [report, waiting] = await Promise.all([
    parityReport(ledger, phase, windowMs + back),
    waitingToCompare(ledger, phase),
  ])
  return { report, waiting, shadows, share, lastDay: day ?? undefined }
}

/**
 * Differences fail it whatever else. A shadow that is gone, or that lets messages wait, says nothing any more, however good its
 * last word was. At 100 % there is nothing legacy left to compare, so the last word counts, and is told as what it is.
 */
export function judgeParity(
  phase: PhaseId,
  { report, waiting, shadows, share, lastDay }: ParityEvidence,
  minimum: number,
): GateResult {
  const gate = {
    gate: 'parity',
    needed: `0 of >= ${minimum}`,
    source: `strangler parity ${phase}`,
  } as const
  const { compared, differing, differingOrders, fields } = report
  const open = fields.filter(({ accepted }) => accepted === undefined)
  const wrong = unsound({
    compared,
    differing,
    differingOrders,
    shadows,
    waiting: waiting.messages,
    oldest: waiting.oldestMs ?? 0,
    share,
  })
  if (wrong.length > 0) return notSound(gate, wrong)
  const measured = `${differingOrders} orders differ, of ${compared} messages compared`
  if (differingOrders > 0 || open.length > 0) {
    const samples = open.flatMap(({ samples: each }) => each)
    return fail(
      gate,
      measured,
      open
        .map(({ field, differences, samples: [first] }) => {
          const shown =
            first === undefined
              ? ''
              : `, such as ours ${first.ours ?? 'absent'}, theirs ${first.theirs ?? 'absent'} of ${first.orderId}`
          return `${field} differs ${differences} times${shown}`
        })
        .join('; ') || 'orders differ, and no field says in what',
      {
        orderIds: samples.map(({ orderId }) => orderId),
        unblock: `mend the mapping, or "strangler parity ${phase} --accept ${open[0]?.field ?? '<field>'} --until ... --why ..."`,
      },
    )
  }
  const allDirect = share === wholeShare
  if (waiting.messages > 0 && (waiting.oldestMs ?? 0) > standstillMs) {
    return inconclusive(
      gate,
      measured,
      `the shadow has fallen silent: ${waiting.messages}${waiting.more ? ' or more' : ''} messages wait to be compared, the oldest for ${seconds(waiting.oldestMs ?? 0)}`,
      'look at the log of the shadow',
    )
  }
  // With nothing to compare nobody has to be there.
  if (shadows === 0 && minimum > 0 && !(allDirect && waiting.messages === 0)) {
    return inconclusive(gate, measured, 'no shadow runs: nothing is compared', 'start the shadow')
  }
  if (compared < minimum) {
    return inconclusive(
      gate,
      measured,
      `${compared} messages compared are too few to say it of`,
      allDirect
        ? 'all orders are direct, so that there is nothing left to compare with: this was forced'
        : 'wait for orders on the legacy path, or set GATE_MINIMUM or GATE_WINDOW',
    )
  }
  const accepted =
    fields.length === 0
      ? ''
      : ` but in ${some(
          fields.map(({ field }) => field),
          5,
        )}, which is accepted`
  return pass(
    gate,
    measured,
    allDirect
      ? `all orders are direct, so nothing new is compared; up to ${lastDay ?? 'now'} we did what CRM did${accepted}`
      : `we would do what the legacy does${accepted}`,
  )
}
