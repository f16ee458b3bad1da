import type { Client } from '../runtime/postgres.ts'

/** Where what we would have done and what was done are not the same. undefined = there is none. */
export interface FieldDifference {
  readonly field: string
  readonly ours: string | undefined
  readonly theirs: string | undefined
}

/** A message of the bridge, compared. */
export interface ComparedMessage {
  readonly inboxId: string
  readonly orderId: string
  readonly differences: readonly FieldDifference[]
  /** Its write was given up and has come after all: what was noted of it is taken back first. */
  readonly again: boolean
}

/** A write of CRM that no message asked for. */
export interface UnaskedWrite {
  readonly crmWriteId: string
  readonly orderId: string
  readonly difference: FieldDifference
}

export interface Comparison {
  readonly compared: readonly ComparedMessage[]
  readonly unasked: readonly UnaskedWrite[]
  /** Messages with nothing of ours to compare them with: looked at, not counted. */
  readonly skipped: readonly string[]
}

/** Of one batch, in messages; `unasked` are writes of CRM. */
export interface Compared {
  readonly same: number
  readonly different: number
  readonly unasked: number
  readonly skipped: number
}

export function tally({ compared, unasked, skipped }: Comparison): Compared {
  const different = compared.filter(({ differences }) => differences.length > 0).length
  return {
    same: compared.length - different,
    different,
    unasked: unasked.length,
    skipped: skipped.length,
  }
}

const takeBack = `
  WITH gone AS (
    DELETE FROM parity_difference WHERE inbox_id = ANY($2::bigint[]) RETURNING inbox_id, at
  ), per_day AS (
    SELECT (at AT TIME ZONE 'UTC')::date AS day, count(DISTINCT inbox_id) AS messages FROM gone GROUP BY 1
  )
  UPDATE parity_count c SET differing = c.differing - p.messages FROM per_day p WHERE c.phase = $1 AND c.day = p.day`

// Only what this very statement marks is counted, so a comparison that is booked twice counts once.
const book = `
  WITH marked AS (
    UPDATE bridge_inbox SET compared_at = clock_timestamp()
    WHERE id = ANY($2::bigint[] || $3::bigint[]) AND compared_at IS NULL RETURNING id
  ), kept AS (
    INSERT INTO parity_difference (phase, inbox_id, crm_write_id, order_id, field, ours, theirs)
    SELECT $1, d.inbox_id, d.crm_write_id, d.order_id, d.field, left(d.ours, 200), left(d.theirs, 200)
    FROM unnest($5::bigint[], $6::bigint[], $7::text[], $8::text[], $9::text[], $10::text[])
      AS d(inbox_id, crm_write_id, order_id, field, ours, theirs)
    WHERE d.inbox_id IS NULL OR d.inbox_id = ANY($4::bigint[]) OR d.inbox_id IN (SELECT id FROM marked)
    ON CONFLICT DO NOTHING
    RETURNING inbox_id, crm_write_id
  )
  INSERT INTO parity_count AS c (phase, day, compared, differing)
  SELECT $1, (clock_timestamp() AT TIME ZONE 'UTC')::date,
    (SELECT count(*) FROM marked WHERE id = ANY($2::bigint[])),
    (SELECT count(DISTINCT coalesce(inbox_id, -crm_write_id)) FROM kept)
  ON CONFLICT (phase, day) DO UPDATE SET compared = c.compared + excluded.compared, differing = c.differing + excluded.differing`

/** Within one transaction: messages are marked, counted, and their differences kept. */
export async function bookComparison(
  client: Client,
  phase: string,
  { compared, unasked, skipped }: Comparison,
): Promise<void> {
  if (compared.length + unasked.length + skipped.length === 0) return
  const again = compared.filter((each) => each.again).map(({ inboxId }) => inboxId)
  if (again.length > 0) await client.query(takeBack, [phase, again])
  const rows = [
    ...compared.flatMap(({ inboxId, orderId, differences }) =>
      differences.map((difference) => ({ inboxId, crmWriteId: null, orderId, ...difference })),
    ),
    ...unasked.map(({ crmWriteId, orderId, difference }) => ({
      inboxId: null,
      crmWriteId,
      orderId,
      ...difference,
    })),
  ]
  await client.query({
    name: 'book-comparison',
    text: book,
    values: [
      phase,
      compared.filter((each) => !each.again).map(({ inboxId }) => inboxId),
      skipped,
      again,
      rows.map(({ inboxId }) => inboxId),
      rows.map(({ crmWriteId }) => crmWriteId),
      rows.map(({ orderId }) => orderId),
      rows.map(({ field }) => field),
      rows.map(({ ours }) => ours ?? null),
      rows.map(({ theirs }) => theirs ?? null),
    ],
  })
}
