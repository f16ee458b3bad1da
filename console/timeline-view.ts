import { readTimeline } from '../flags/timeline.ts'
import type { EventKind, TimelineWanted } from '../flags/timeline.ts'
import type { Pool } from '../runtime/postgres.ts'

export interface Moment {
  readonly kind: EventKind
  readonly phase: string | undefined
  readonly who: string
  readonly says: string
  readonly detail: Readonly<Record<string, unknown>>
  readonly at: Date
}

type MomentsWanted = Pick<TimelineWanted, 'phase' | 'limit' | 'sinceMs'>

/** What happened to the phases, the latest first. */
export async function readCourse(ledger: Pool, wanted: MomentsWanted): Promise<Moment[]> {
  const events = await readTimeline(ledger, { ...wanted, without: ['login', 'queue'] })
  return events.map(momentOf)
}

/** What people did, or were refused, and who logged in; the latest first. */
export async function readDeeds(ledger: Pool, limit: number): Promise<Moment[]> {
  const events = await readTimeline(ledger, {
    limit,
    without: ['gate', 'breach', 'receipt', 'start'],
  })
  return events.map(momentOf)
}

function momentOf({
  phase,
  kind,
  who,
  says,
  detail,
  at,
}: Awaited<ReturnType<typeof readTimeline>>[number]): Moment {
  return { kind, phase: phase ?? undefined, who, says, detail, at }
}
