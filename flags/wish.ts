import { StranglerError } from '../contracts/errors.ts'
import { wholeShare } from '../contracts/path-share.ts'
import type { Pool } from '../runtime/postgres.ts'
import type { PhaseId } from './phases.ts'

/** What people want of a phase. Unknown is not 0 %: what is in force stays, and nothing rises. */
export interface StoredWish {
  /** In ten-thousandths; undefined: unknown, and `reason` says why. */
  readonly share: number | undefined
  readonly reason: string | undefined
  readonly source: 'unleash' | 'command'
  readonly who: string
  readonly why: string
  readonly changedAt: Date
  /** Since it was read from its source, by the ledger's clock. A wish of a command does not age. */
  readonly ageMs: number
}

/** Undefined: nobody has ever wished anything of this phase. */
export async function readWish(ledger: Pool, phase: PhaseId): Promise<StoredWish | undefined> {
  const { rows } = await ledger.query<
    Omit<StoredWish, 'share' | 'reason'> & { share: number | null; reason: string | null }
  >(
    `SELECT share, reason, source, who, why, changed_at AS "changedAt",
       extract(epoch FROM clock_timestamp() - read_at)::float8 * 1000 AS "ageMs"
     FROM wish WHERE phase = $1`,
    [phase],
  )
  const row = rows[0]
  return row && { ...row, share: row.share ?? undefined, reason: row.reason ?? undefined }
}

export interface NewWish {
  readonly share: number | undefined
  readonly reason?: string
  readonly source: StoredWish['source']
  readonly who: string
  readonly why: string
}

/** Stores it; one that differs from the last goes into the timeline. */
export async function writeWish(ledger: Pool, phase: PhaseId, wish: NewWish): Promise<void> {
  const { share, reason, source, who, why } = wish
  if (share !== undefined && !(Number.isInteger(share) && share >= 0 && share <= wholeShare))
    throw new StranglerError('invalid_argument', `a share of ${share} ten-thousandths`)
  await ledger.query(
    `WITH before AS (SELECT share FROM wish WHERE phase = $1),
     stored AS (
       INSERT INTO wish AS w (phase, share, reason, source, who, why) VALUES ($1, $2, $3, $4, $5, $6)
       ON CONFLICT (phase) DO UPDATE SET share = excluded.share, reason = excluded.reason, source = excluded.source,
         read_at = excluded.read_at,
         who = CASE WHEN w.share IS DISTINCT FROM excluded.share OR excluded.source = 'command' THEN excluded.who ELSE w.who END,
         why = CASE WHEN w.share IS DISTINCT FROM excluded.share OR excluded.source = 'command' THEN excluded.why ELSE w.why END,
         changed_at = CASE WHEN w.share IS DISTINCT FROM excluded.share THEN excluded.changed_at ELSE w.changed_at END)
     INSERT INTO phase_event (phase, kind, who, says, detail)
     SELECT $1, 'wish', $5,
       CASE WHEN $2::int IS NULL THEN format('the wish is unknown: %s', $3::text) ELSE format('wished: %s %%', ($2::int / 100.0)::float8) END,
       jsonb_build_object('share', $2::int, 'source', $4::text, 'why', $6::text)
     WHERE NOT EXISTS (SELECT FROM before WHERE share IS NOT DISTINCT FROM $2::int)`,
    [
      phase,
      share ?? null,
      share === undefined ? (reason ?? 'no reason given') : null,
      source,
      who,
      why,
    ],
  )
}
