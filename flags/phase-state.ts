import type { Pool } from '../runtime/postgres.ts'
import type { PhaseId } from './phases.ts'

/** Where a flip stands. A crash leaves `intended` or `in force` behind; the next verb ends it. */
export type Step = 'intended' | 'in force' | 'complete' | 'abandoned'
export type Verb = 'advance' | 'rollback'

/** What the journal says of a phase. Epoch 0 = it never moved. */
export interface PhaseState {
  readonly epoch: number
  readonly share: number
  readonly step: Step
  readonly last: { verb: string; who: string; why: string; at: Date } | undefined
}

export interface Route {
  readonly epoch: number
  readonly share: number
}

/** The phase's row and the furthest step of its epoch, from one snapshot. */
export async function readPhase(ledger: Pool, phase: PhaseId): Promise<PhaseState> {
  const { rows } = await ledger.query<{
    epoch: number
    share: number
    step: Step | null
    verb: string | null
    who: string
    why: string
    at: Date
  }>(
    `SELECT p.epoch, p.share, j.step, j.verb, j.who, j.why, j.at
     FROM phase p
     LEFT JOIN LATERAL (
       SELECT * FROM phase_journal WHERE phase = p.phase AND epoch = p.epoch ORDER BY id DESC LIMIT 1
     ) j ON true
     WHERE p.phase = $1`,
    [phase],
  )
  const row = rows[0]
  if (row === undefined) return { epoch: 0, share: 0, step: 'complete', last: undefined }
  return {
    epoch: row.epoch,
    share: row.share,
    // A row without a journal was written by hand: whatever it says is in force at its epoch, or it is not.
    step: row.step ?? 'intended',
    last:
      row.verb === null ? undefined : { verb: row.verb, who: row.who, why: row.why, at: row.at },
  }
}

/** What is read where the phase is decided; undefined means that every order goes the legacy path. */
export async function readRoute(seam: Pool, phase: PhaseId): Promise<Route | undefined> {
  const { rows } = await seam.query<Route>(
    'SELECT epoch, share FROM strangler.route WHERE phase = $1',
    [phase],
  )
  return rows[0]
}
