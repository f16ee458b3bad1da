import type { Path } from '../contracts/order.ts'
import type { Pool } from '../runtime/postgres.ts'
import { visits } from './bottleneck.ts'

/** What left a hop within one step of the axis. Times are milliseconds from coming to leaving. */
export interface LatencyPoint {
  /** 0 = the oldest step. */
  readonly step: number
  readonly orders: number
  readonly p50: number
  readonly p95: number
}

export interface LatencyLine {
  readonly hop: string
  readonly path: Path
  /** A person decides here. */
  readonly human: boolean
  /** Steps in which nothing left are missing. */
  readonly points: readonly LatencyPoint[]
}

export interface LatencyOverTime {
  readonly from: Date
  readonly to: Date
  readonly steps: number
  readonly lines: readonly LatencyLine[]
}

/** How long orders were in each hop, by the time at which they left it, over the last `sinceMs`. */
export async function latencyOverTime(
  ledger: Pool,
  sinceMs: number,
  steps: number,
): Promise<LatencyOverTime> {
  const clock = await ledger.query<{ now: string; start: string; from: Date; to: Date }>(
    `SELECT n::text AS now, s::text AS start, s AS from, n AS to
     FROM (SELECT n, n - $1::float8 * interval '1 ms' AS s FROM (SELECT clock_timestamp() AS n) c) w`,
    [sinceMs],
  )
  const { now, start, from, to } = clock.rows[0]!
  const { rows } = await ledger.query<Omit<LatencyLine, 'points'> & LatencyPoint>(
    `WITH ${visits}
     SELECT hop, path, bool_or(human) AS human, step, count(*)::int AS orders,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY ms)::float8 AS p50, percentile_cont(0.95) WITHIN GROUP (ORDER BY ms)::float8 AS p95
     FROM (SELECT hop, path, human, greatest(0, extract(epoch FROM depart - arrive) * 1000) AS ms,
             least($3::int - 1, floor(extract(epoch FROM depart - $2::timestamptz) * 1000 * $3::int / $4::float8))::int AS step
           FROM visits WHERE depart BETWEEN $2::timestamptz AND $1::timestamptz) left_at
     GROUP BY hop, path, step ORDER BY hop, path, step`,
    [now, start, steps, sinceMs],
  )
  const lines = new Map<string, LatencyLine & { points: LatencyPoint[] }>()
  for (const { hop, path, human, ...point } of rows) {
    const key = `${hop} ${path}`
    const line = lines.get(key) ?? { hop, path, human, points: [] }
    line.points.push(point)
    lines.set(key, line)
  }
  return { from, to, steps, lines: [...lines.values()] }
}
