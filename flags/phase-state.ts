import type { Pool } from '../runtime/postgres.ts'
import type { PhaseId } from './phases.ts'

/** Where a flip stands. A crash leaves `intended` or `in force` behind; the next verb ends it. */
export type Step = 'intended' | 'in force' | 'complete' | 'abandoned'
/** What a rollback has done after its flip was complete. */
export type RollbackStep = 'drained' | 'handed over' | 'verified'
/**
 * advance: a higher share. lower: a lower one that somebody wished. admit: an exact count of orders more. rollback and kill: to
 * nothing, and pinned there.
 */
export type Verb = 'advance' | 'lower' | 'admit' | 'rollback' | 'kill'
export type PinKind = 'hold' | 'rollback' | 'kill'

/** A pinned phase follows no higher wish until somebody resumes it. */
export interface Pin {
  readonly kind: PinKind
  readonly who: string
  readonly why: string
  readonly at: Date
}

/** What the journal says of a phase. Epoch 0 = it never moved. */
export interface PhaseState {
  readonly epoch: number
  readonly share: number
  readonly step: Step
  /** The furthest step of a rollback, beyond `complete`. */
  readonly rollback: RollbackStep | undefined
  /** How many orders the flip admitted beyond its share; undefined: it was no counted step. */
  readonly tokens: number | undefined
  /** Whose orders alone those are; undefined: anybody's. */
  readonly partner: string | undefined
  readonly pin: Pin | undefined
  readonly last: { verb: string; who: string; why: string; at: Date } | undefined
}

export interface Route {
  readonly epoch: number
  readonly share: number
  /** What is left of a counted step. */
  readonly tokens: number
}

const rollbackSteps: readonly string[] = ['drained', 'handed over', 'verified']

/** The phase's row and the furthest step of its epoch, from one snapshot. */
export async function readPhase(ledger: Pool, phase: PhaseId): Promise<PhaseState> {
  const { rows } = await ledger.query<{
    epoch: number
    share: number
    pin: PinKind | null
    pinned_by: string
    pinned_why: string
    pinned_at: Date
    step: Step | null
    rollback: RollbackStep | null
    tokens: number | null
    partner: string | null
    verb: string | null
    who: string
    why: string
    at: Date
  }>(
    `SELECT p.epoch, p.share, p.pin, p.pinned_by, p.pinned_why, p.pinned_at,
       f.step, f.verb, f.who, f.why, f.at, (f.detail ->> 'tokens')::int AS tokens, f.detail ->> 'partner' AS partner, r.step AS rollback
     FROM phase p
     LEFT JOIN LATERAL (
       SELECT * FROM phase_journal WHERE phase = p.phase AND epoch = p.epoch AND step <> ALL($2::text[]) ORDER BY id DESC LIMIT 1
     ) f ON true
     LEFT JOIN LATERAL (
       SELECT step FROM phase_journal WHERE phase = p.phase AND epoch = p.epoch AND step = ANY($2::text[]) ORDER BY id DESC LIMIT 1
     ) r ON true
     WHERE p.phase = $1`,
    [phase, rollbackSteps],
  )
  const row = rows[0]
  if (row === undefined) return neverMoved
  return {
    epoch: row.epoch,
    share: row.share,
    // A row without a journal was written by hand, and whatever it says is in force at its epoch, or it is not; or it only
    // holds a pin, and then the phase has never moved.
    step: row.step ?? (row.epoch === 0 ? 'complete' : 'intended'),
    rollback: row.rollback ?? undefined,
    tokens: row.tokens ?? undefined,
    partner: row.partner ?? undefined,
    pin:
      row.pin === null
        ? undefined
        : { kind: row.pin, who: row.pinned_by, why: row.pinned_why, at: row.pinned_at },
    last:
      row.verb === null ? undefined : { verb: row.verb, who: row.who, why: row.why, at: row.at },
  }
}

const neverMoved: PhaseState = {
  epoch: 0,
  share: 0,
  step: 'complete',
  rollback: undefined,
  tokens: undefined,
  partner: undefined,
  pin: undefined,
  last: undefined,
}

/** What is read where the phase is decided; undefined means that every order goes the legacy path. */
export async function readRoute(seam: Pool, phase: PhaseId): Promise<Route | undefined> {
  const { rows } = await seam.query<Route>(
    `SELECT r.epoch, r.share, CASE WHEN r.counted THEN
       (SELECT count(*)::int FROM strangler.route_token t WHERE t.phase = r.phase AND t.epoch = r.epoch) ELSE 0 END AS tokens
     FROM strangler.route r WHERE r.phase = $1`,
    [phase],
  )
  return rows[0]
}
