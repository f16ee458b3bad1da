import { StranglerError } from '../../contracts/errors.ts'
import { acceptedFields, type Acceptance, type Sample } from '../../delivery/parity-report.ts'
import type { Pool } from '../../runtime/postgres.ts'
import type { PartnerDatabases } from './change-partner.ts'

export interface ShadowField {
  readonly field: string
  /** At most a thousand are kept. */
  readonly differences: number
  /** In force now. */
  readonly accepted: Acceptance | undefined
  /** The latest. */
  readonly samples: readonly Sample[]
}

/** What the shadow has found of one kind of call of a partner. */
export interface ShadowReport {
  readonly partner: string
  readonly endpoint: string
  /** Calls, of the whole days that the window touches. */
  readonly eligible: number
  readonly compared: number
  readonly differing: number
  readonly dropped: number
  readonly fields: readonly ShadowField[]
}

const phase = 'partner-intake'
const samplesPerField = 5
const enterWindowMs = 7 * 86_400_000

/** Of the window or, without one, ever. */
export async function shadowReport(
  { intake, ledger }: PartnerDatabases,
  { sinceMs, partner }: { readonly sinceMs?: number | undefined; readonly partner?: string },
): Promise<ShadowReport[]> {
  const accepted = await acceptedFields(ledger, phase)
  const window = [sinceMs ?? null, partner ?? null]
  const counts = await intake.query<Omit<ShadowReport, 'fields'>>(
    `SELECT partner, endpoint, sum(eligible)::float8 AS eligible, sum(compared)::float8 AS compared, sum(differing)::float8 AS differing,
       sum(dropped)::float8 AS dropped
     FROM partner_shadow_count
     WHERE ($1::float8 IS NULL OR day >= ((clock_timestamp() - $1::float8 * interval '1 millisecond') AT TIME ZONE 'UTC')::date)
       AND ($2::text IS NULL OR partner = $2)
     GROUP BY 1, 2 ORDER BY 1, 2 DESC`,
    window,
  )
  const found = await intake.query<{
    partner: string
    endpoint: string
    field: string
    differences: number
    samples: Sample[]
  }>(
    `WITH found AS (
       SELECT d.*, row_number() OVER (PARTITION BY partner, endpoint, field ORDER BY id DESC) AS age FROM partner_shadow_difference d
       WHERE ($1::float8 IS NULL OR at >= clock_timestamp() - $1::float8 * interval '1 millisecond') AND ($2::text IS NULL OR partner = $2))
     SELECT partner, endpoint, field, count(*)::int AS differences,
       jsonb_agg(jsonb_build_object('orderId', coalesce(order_ref, ''), 'ours', ours, 'theirs', theirs, 'at', at) ORDER BY id DESC)
         FILTER (WHERE age <= ${samplesPerField}) AS samples
     FROM found GROUP BY 1, 2, 3 ORDER BY 4 DESC, 3`,
    window,
  )
  return counts.rows.map((each) => ({
    ...each,
    fields: found.rows
      .filter(({ partner: of, endpoint }) => of === each.partner && endpoint === each.endpoint)
      .map(({ field, differences, samples }) => ({
        field,
        differences,
        accepted: accepted.get(field),
        samples: samples.map((sample) => ({ ...sample, at: new Date(sample.at) })),
      })),
  }))
}

export function openFields({ fields }: ShadowReport): ShadowField[] {
  return fields.filter(({ accepted }) => accepted === undefined)
}

/** The fields in which an answer has ever differed. */
export async function shadowedFields(intake: Pool): Promise<string[]> {
  const { rows } = await intake.query<{ field: string }>(
    'SELECT DISTINCT field FROM partner_shadow_difference ORDER BY field',
  )
  return rows.map(({ field }) => field)
}

/** Of the orders of a partner, in the last seven days. */
export interface ShadowSaid {
  readonly compared: number
  readonly differing: number
}

/** @throws StranglerError `refused`: the intake would have answered this partner otherwise, or too little was compared */
export async function refuseByShadow(
  databases: PartnerDatabases,
  partner: string,
  minimum: number,
): Promise<ShadowSaid> {
  const reports = await shadowReport(databases, { sinceMs: enterWindowMs, partner })
  const open = reports.flatMap((report) =>
    openFields(report).map(({ field, differences, samples }) => {
      const { orderId = '', ours, theirs } = samples[0] ?? {}
      const order = orderId === '' ? '' : ` of ${orderId}`
      return `${report.endpoint} ${field}${order}: ours ${ours ?? 'absent'}, theirs ${theirs ?? 'absent'} (${differences})`
    }),
  )
  if (open.length > 0)
    throw new StranglerError(
      'refused',
      `in the last 7 days the intake would have answered ${partner} otherwise than the MES: ${open.join('; ')}. ` +
        `Mend it, or accept it with "strangler parity ${phase} --accept <field> --until <time> --why ..."`,
    )
  const orders = reports.find(({ endpoint }) => endpoint === 'POST /orders')
  const { compared = 0, differing = 0 } = orders ?? {}
  if (compared < minimum)
    throw new StranglerError(
      'refused',
      `the shadow has compared ${compared} orders of ${partner} in the last 7 days, and ${minimum} are wanted; ` +
        'does the proxy run with PARTNER_SHADOW?',
    )
  return { compared, differing }
}
