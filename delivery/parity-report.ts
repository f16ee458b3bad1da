import type { Pool } from '../runtime/postgres.ts'

export interface Acceptance {
  readonly until: Date
  readonly why: string
  readonly who: string
}

export interface Sample {
  readonly orderId: string
  readonly ours: string | null
  readonly theirs: string | null
  readonly at: Date
}

export interface FieldReport {
  readonly field: string
  readonly differences: number
  readonly orders: number
  /** In force now; undefined = nobody has accepted it, or the time is over. */
  readonly accepted: Acceptance | undefined
  /** The latest. */
  readonly samples: readonly Sample[]
}

export interface ParityReport {
  readonly phase: string
  /** Messages; of the whole days that the window touches, for they are counted by day. */
  readonly compared: number
  readonly differing: number
  /** Orders with a difference that nobody has accepted. */
  readonly differingOrders: number
  readonly fields: readonly FieldReport[]
}

const samplesPerField = 10

const inForce = `
  SELECT DISTINCT ON (field) field, until, why, who FROM parity_accepted WHERE phase = $1 ORDER BY field, id DESC`

/** What the shadow of a phase has found, in the window or, without one, ever. */
export async function parityReport(
  ledger: Pool,
  phase: string,
  sinceMs: number | undefined,
): Promise<ParityReport> {
  const window = [phase, sinceMs ?? null]
  const counts = await ledger.query<{ compared: number; differing: number }>(
    `SELECT coalesce(sum(compared), 0)::float8 AS compared, coalesce(sum(differing), 0)::float8 AS differing FROM parity_count
     WHERE phase = $1 AND ($2::float8 IS NULL
       OR day >= ((clock_timestamp() - $2::float8 * interval '1 millisecond') AT TIME ZONE 'UTC')::date)`,
    window,
  )
  const { rows } = await ledger.query<{
    field: string
    differences: number
    orders: number
    until: Date | null
    why: string | null
    who: string | null
    samples: Sample[]
  }>(
    `WITH found AS (
       SELECT field, count(*)::int AS differences, count(DISTINCT order_id)::int AS orders FROM parity_difference
       WHERE phase = $1 AND ($2::float8 IS NULL OR at >= clock_timestamp() - $2::float8 * interval '1 millisecond') GROUP BY field)
     SELECT f.field, f.differences, f.orders, a.until, a.why, a.who, s.samples
     FROM found f LEFT JOIN (${inForce}) a ON a.field = f.field AND a.until > clock_timestamp()
     CROSS JOIN LATERAL (
       SELECT jsonb_agg(jsonb_build_object('orderId', d.order_id, 'ours', d.ours, 'theirs', d.theirs, 'at', d.at)) AS samples
       FROM (SELECT * FROM parity_difference p WHERE p.phase = $1 AND p.field = f.field ORDER BY p.id DESC LIMIT $3) d
       WHERE $2::float8 IS NULL OR d.at >= clock_timestamp() - $2::float8 * interval '1 millisecond') s
     ORDER BY f.differences DESC, f.field`,
    [...window, samplesPerField],
  )
  const fields = rows.map(({ until, why, who, samples, ...row }) => ({
    ...row,
    accepted: until === null ? undefined : { until, why: why ?? '', who: who ?? '' },
    samples: (samples ?? []).map((sample) => ({ ...sample, at: new Date(sample.at) })),
  }))
  const open = fields.filter(({ accepted }) => accepted === undefined).map(({ field }) => field)
  const differing = await ledger.query<{ orders: number }>(
    `SELECT count(DISTINCT order_id)::int AS orders FROM parity_difference
     WHERE phase = $1 AND ($2::float8 IS NULL OR at >= clock_timestamp() - $2::float8 * interval '1 millisecond')
       AND field = ANY($3::text[])`,
    [...window, open],
  )
  return { phase, ...counts.rows[0]!, differingOrders: differing.rows[0]!.orders, fields }
}

/** The fields of a phase that may differ now, with who says so. */
export async function acceptedFields(
  ledger: Pool,
  phase: string,
): Promise<ReadonlyMap<string, Acceptance>> {
  const { rows } = await ledger.query<Acceptance & { field: string }>(
    `SELECT * FROM (${inForce}) a WHERE a.until > clock_timestamp()`,
    [phase],
  )
  return new Map(rows.map(({ field, ...acceptance }) => [field, acceptance]))
}

/** The fields in which a phase has ever differed. */
export async function differingFields(ledger: Pool, phase: string): Promise<string[]> {
  const { rows } = await ledger.query<{ field: string }>(
    'SELECT DISTINCT field FROM parity_difference WHERE phase = $1 ORDER BY field',
    [phase],
  )
  return rows.map(({ field }) => field)
}

/** A time, or so many milliseconds from now; both by the ledger's clock. */
export type Until = { readonly at: Date } | { readonly inMs: number }

/** Records that differences in this field are known and wanted until then. Returns the time, or undefined: it is over already. */
export async function acceptDifference(
  ledger: Pool,
  acceptance: {
    readonly phase: string
    readonly field: string
    readonly until: Until
    readonly why: string
    readonly who: string
  },
): Promise<Date | undefined> {
  const { phase, field, until, why, who } = acceptance
  const { rows } = await ledger.query<{ until: Date }>(
    `INSERT INTO parity_accepted (phase, field, until, why, who)
     SELECT $1, $2, u.until, $5, $6
     FROM (SELECT coalesce($3::timestamptz, clock_timestamp() + $4::float8 * interval '1 millisecond') AS until) u
     WHERE u.until > clock_timestamp() RETURNING until`,
    [
      phase,
      field,
      'at' in until ? until.at.toISOString() : null,
      'inMs' in until ? until.inMs : null,
      why,
      who,
    ],
  )
  return rows[0]?.until
}
