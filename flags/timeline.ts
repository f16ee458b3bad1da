import type { Client, Pool } from '../runtime/postgres.ts'
import type { PhaseId } from './phases.ts'

/**
 * What may stand in the timeline. A flip itself stands in `phase_journal`; here is what people did and what happened around it.
 */
export type EventKind =
  | 'hold'
  | 'resume'
  | 'rollback'
  | 'kill'
  | 'advance'
  | 'lower'
  | 'admit'
  | 'wish'
  | 'gate'
  | 'breach'
  | 'approval'
  | 'receipt'
  | 'retire'
  | 'redrive'
  | 'repin'
  | 'parity'
  | 'login'
  | 'queue'
  | 'start'
  | 'partner'

export interface TimelineEvent {
  readonly id: string
  readonly phase: PhaseId | null
  readonly kind: EventKind
  readonly who: string
  readonly says: string
  readonly detail: Readonly<Record<string, unknown>>
  readonly at: Date
}

export async function noteEvent(
  ledger: Pool | Client,
  event: Pick<TimelineEvent, 'phase' | 'kind' | 'who' | 'says'> & {
    readonly detail?: Readonly<Record<string, unknown>>
  },
): Promise<void> {
  await ledger.query(
    'INSERT INTO phase_event (phase, kind, who, says, detail) VALUES ($1, $2, $3, $4, $5)',
    [event.phase, event.kind, event.who, event.says, JSON.stringify(event.detail ?? {})],
  )
}

export interface TimelineWanted {
  readonly phase?: string
  readonly limit: number
  readonly without?: readonly EventKind[]
  readonly sinceMs?: number
}

/** The latest first. */
export async function readTimeline(
  ledger: Pool,
  options: TimelineWanted,
): Promise<TimelineEvent[]> {
  const { rows } = await ledger.query<TimelineEvent>(
    `SELECT id::text, phase, kind, who, says, detail, at FROM phase_event
     WHERE ($1::text IS NULL OR phase = $1) AND kind <> ALL($3::text[])
       AND ($4::float8 IS NULL OR at > clock_timestamp() - $4::float8 * interval '1 ms')
     ORDER BY phase_event.id DESC LIMIT $2`,
    [options.phase ?? null, options.limit, options.without ?? [], options.sinceMs ?? null],
  )
  return rows
}
