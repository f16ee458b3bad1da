import type { PhaseId } from '../../flags/phases.ts'
import { findPhase, migrationSeed } from '../../flags/phases.ts'
import { seamOf } from '../../flags/seams.ts'
import type { Seams } from '../../flags/seams.ts'
import { openInShop } from '../wire/settled-orders.ts'
import type { Decision } from './replay-decisions.ts'

const within = (column: string): string =>
  `${column} >= clock_timestamp() - $1::float8 * interval '1 millisecond'`
const age = (column: string): string =>
  `(extract(epoch FROM clock_timestamp() - ${column}) * 1000)::float8 AS "ageMs"`

/** The decisions of the window, the oldest first, where each phase keeps them. */
export async function recordedDecisions(
  seams: Seams,
  phase: PhaseId,
  windowMs: number,
): Promise<Decision[]> {
  const seam = seamOf(findPhase(phase), seams)
  const { rows } =
    phase === 'orders-direct'
      ? await seam.query<Decision>(
          `SELECT order_id::text AS "orderId", path, true AS "byShare", reason ->> 'rule' = 'token' AS "byToken", ${age('at')}
           FROM strangler.outbox WHERE ${within('at')} ORDER BY at, id`,
          [windowMs],
        )
      : phase === 'partner-intake'
        ? await seam.query<Decision>(
            `SELECT id::text AS "orderId", partner || ':' || external_id AS key, CASE born WHEN 'intake' THEN 'direct' ELSE 'legacy' END AS path,
             path_reason ->> 'rule' <> 'born in the MES' AS "byShare", path_reason ->> 'rule' = 'token' AS "byToken", ${age('created_at')}
           FROM partner_order WHERE ${within('created_at')} ORDER BY created_at, id`,
            [windowMs],
          )
        : // Its first status has no time of its own here: that of the order's acceptance stands for it.
          await seam.query<Decision>(
            `SELECT order_id AS "orderId", status_path AS path, ${age('accepted_at')},
             coalesce(status_reason ->> 'rule', '') NOT IN ('CRM had statuses of it before', 'repinned') AS "byShare",
             coalesce(status_reason ->> 'rule' = 'token', false) AS "byToken"
           FROM order_ledger WHERE ${within('accepted_at')} AND status_path IS NOT NULL ORDER BY accepted_at, order_id`,
            [windowMs],
          )
  return rows
}

/** What the seam decides with; before the first flip, what the flip will write. */
export async function seedInForce(seams: Seams, phase: PhaseId): Promise<number> {
  const { rows } = await seamOf(findPhase(phase), seams).query<{ seed: number }>(
    'SELECT seed FROM strangler.route WHERE phase = $1',
    [phase],
  )
  return rows[0]?.seed ?? migrationSeed
}

export interface Staying {
  /** Decided legacy and not closed: they finish through CRM, whatever the share. */
  readonly onLegacy: number
  /** Without a decision yet: their first status will bring it. Of orders-direct there are none. */
  readonly undecided: number
}

export async function readStaying(seams: Seams, phase: PhaseId): Promise<Staying> {
  const { ledger, shop } = seams
  if (phase === 'partner-intake') {
    const { rows } = await seamOf(findPhase(phase), seams).query<Staying>(
      `SELECT count(*)::int AS "onLegacy", 0 AS undecided FROM partner_order WHERE born = 'mes' AND status <> 'CLOSED'`,
    )
    return rows[0]!
  }
  const open = await openInShop(shop)
  const { rows } =
    phase === 'orders-direct'
      ? await shop.query<Staying>(
          `SELECT count(*) FILTER (WHERE path = 'legacy')::int AS "onLegacy", 0 AS undecided
           FROM strangler.outbox WHERE order_id = ANY ($1::uuid[])`,
          [open],
        )
      : await ledger.query<Staying>(
          `SELECT count(*) FILTER (WHERE status_path = 'legacy')::int AS "onLegacy",
             count(*) FILTER (WHERE status_path IS NULL)::int AS undecided
           FROM order_ledger WHERE order_id = ANY ($1::text[])`,
          [open],
        )
  return rows[0]!
}
