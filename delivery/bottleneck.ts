import type { Path } from '../contracts/order.ts'
import type { Pool } from '../runtime/postgres.ts'

/** One hop of one path, over the orders that came to it since the window began. Times are milliseconds. */
export interface HopLoad {
  readonly hop: string
  readonly path: Path
  /** A person decides here; it is shown, and never called the bottleneck. */
  readonly human: boolean
  readonly arrivals: number
  readonly arrivalsPerSecond: number
  readonly inFlight: number
  readonly waitP50: number
  readonly waitP95: number
  readonly serviceP50: number
  readonly serviceP95: number
  /** Of all the time that orders of this path spent in hops without people. */
  readonly shareOfTime: number
  /** Part of the window in which at least one order was there. */
  readonly utilisation: number
  readonly kind: 'queueing' | 'processing'
  /** Little's law: the orders there on average, counted, and as arrivals times time. They agree when the hop keeps up. */
  readonly inSystem: number
  readonly lambdaW: number
}

export interface Bottleneck {
  readonly windowMs: number
  readonly hops: readonly HopLoad[]
  readonly worst: HopLoad | undefined
}

/*
 * A visit is one order in one hop: from `arrive` to `depart`, or still there. Of our own queue we know when the work began
 * (`begin`); of a legacy hop only the two ends. Whether an order queued there or was worked on is told by the orders in
 * front of it: where orders queue, each one ahead costs the same again, so the time grows with their number; where they are
 * only worked on, it does not. The slope of that line times the orders ahead is the wait, the rest is service. A hop that
 * works on several at once has no slope, and a hop that is always full still has one, so neither needs to be known.
 * A status is in the status inbox until it is applied, on the path of the order's statuses, whatever that of the order; one
 * that a person had to look at is counted apart. What CRM does with a status of the legacy path nobody here can see.
 */
export const visits = `
  mail AS (
    SELECT i.id, i.order_id, i.queue, i.routing_key, i.status, i.received_at, i.settled_at, l.path, i.state = 'diverted' AS diverted
    FROM bridge_inbox i JOIN order_ledger l ON l.order_id = i.order_id
    WHERE i.received_at >= $2::timestamptz AND i.state <> 'suppressed'),
  submits AS (
    SELECT l.order_id, l.path, l.submitted_at, l.accepted_at, l.sending_at, l.delivered_at, l.state
    FROM order_ledger l WHERE l.accepted_at >= $2::timestamptz),
  first_mail AS (
    SELECT DISTINCT ON (order_id, routing_key, status) * FROM mail ORDER BY order_id, routing_key, status, id),
  told AS (
    SELECT s.id, l.status_path AS path, s.received_at, s.tried_at, s.settled_at, s.state = 'parked' OR s.who IS NOT NULL AS by_person
    FROM mail m JOIN status_inbox s ON s.id = m.id JOIN order_ledger l ON l.order_id = s.order_id
    WHERE m.diverted),
  forwarded AS (
    SELECT s.order_id, s.path,
      CASE WHEN s.path = 'direct' THEN CASE WHEN s.state = 'delivered' THEN s.delivered_at END ELSE m.settled_at END AS at
    FROM submits s LEFT JOIN first_mail m ON m.order_id = s.order_id AND m.routing_key = 'order.submitted'),
  visits(hop, path, human, arrive, begin, depart) AS (
    SELECT 'relay', path, false, submitted_at, NULL::timestamptz, accepted_at FROM submits WHERE path = 'direct'
    UNION ALL
    SELECT 'queue', path, false, accepted_at, coalesce(sending_at, 'infinity'), CASE WHEN state IN ('delivered', 'dead', 'cancelled') THEN coalesce(delivered_at, sending_at, accepted_at) END
    FROM submits WHERE path = 'direct'
    UNION ALL
    SELECT 'CRM', s.path, false, s.submitted_at, NULL, m.received_at
    FROM submits s LEFT JOIN first_mail m ON m.order_id = s.order_id AND m.routing_key = 'order.submitted'
    WHERE s.path = 'legacy' AND s.state NOT IN ('dead', 'cancelled') AND (m.id IS NOT NULL OR s.state <> 'delivered')
    UNION ALL
    SELECT 'bridge ' || queue, path, false, received_at, received_at, settled_at FROM mail
    UNION ALL
    SELECT 'status inbox', path, false, received_at, coalesce(tried_at, 'infinity'), settled_at FROM told WHERE NOT by_person
    UNION ALL
    SELECT 'parked status', path, true, received_at, NULL, settled_at FROM told WHERE by_person
    UNION ALL
    SELECT 'MES', f.path, false, f.at, NULL, p.received_at
    FROM forwarded f LEFT JOIN first_mail p ON p.order_id = f.order_id AND p.routing_key = 'order.price_calculated'
    WHERE f.at IS NOT NULL
    UNION ALL
    SELECT 'seller', p.path, true, coalesce(t.settled_at, p.settled_at, p.received_at), NULL, a.received_at
    FROM first_mail p LEFT JOIN told t ON t.id = p.id LEFT JOIN first_mail a ON a.order_id = p.order_id AND a.routing_key = 'order.approved'
    -- A price that is not in the Shop yet is nobody's to look at.
    WHERE p.routing_key = 'order.price_calculated' AND (t.id IS NULL OR t.settled_at IS NOT NULL)
    UNION ALL
    SELECT 'operator', a.path, true, coalesce(a.settled_at, a.received_at), NULL, s.received_at
    FROM first_mail a LEFT JOIN first_mail s ON s.order_id = a.order_id AND s.status = 'MANUFACTURING_STARTED'
    WHERE a.routing_key = 'order.approved')`

const statement = `
  WITH ${visits},
  timed AS (
    SELECT row_number() OVER () AS n, hop, path, human, arrive, depart,
      greatest(0, extract(epoch FROM coalesce(depart, $1::timestamptz) - arrive) * 1000) AS sojourn,
      CASE WHEN begin IS NOT NULL
        THEN greatest(0, extract(epoch FROM least(begin, coalesce(depart, $1::timestamptz)) - arrive) * 1000) END AS known_wait
    FROM visits),
  edges AS (
    SELECT hop, path, n, arrive AS at, 1 AS step, human, depart, sojourn, known_wait FROM timed
    UNION ALL
    SELECT hop, path, NULL, greatest(arrive, coalesce(depart, $1::timestamptz)), -1, NULL, NULL, NULL, NULL FROM timed),
  crowd AS (
    SELECT hop, path, n, at, step, human, depart, sojourn, known_wait,
      sum(step) OVER w AS present,
      extract(epoch FROM lead(at) OVER w - at) * 1000 AS lasts
    FROM edges
    WINDOW w AS (PARTITION BY hop, path ORDER BY at, step, n ROWS UNBOUNDED PRECEDING)),
  levels AS (
    SELECT hop, path, sum(present * lasts) AS area, sum(lasts) FILTER (WHERE present > 0) AS busy FROM crowd GROUP BY hop, path),
  -- Not a join of the visits with their edges: the planner, which knows nothing of either, would compare each with each.
  ahead AS (
    SELECT hop, path, human, depart, sojourn, known_wait, present - 1 AS ahead FROM crowd WHERE n IS NOT NULL),
  lines AS (
    SELECT hop, path,
      CASE WHEN count(*) >= 4 AND coalesce(regr_r2(sojourn, ahead), 0) >= 0.3 THEN greatest(0, regr_slope(sojourn, ahead)) ELSE 0 END AS slope
    FROM ahead GROUP BY hop, path),
  split AS (
    SELECT a.*, coalesce(known_wait, least(sojourn, slope * ahead)) AS wait
    FROM ahead a JOIN lines USING (hop, path))
  SELECT s.hop, s.path, bool_or(s.human) AS human, count(*)::int AS arrivals,
    (count(*) FILTER (WHERE depart IS NULL))::int AS "inFlight",
    percentile_cont(0.5) WITHIN GROUP (ORDER BY wait)::float8 AS "waitP50",
    percentile_cont(0.95) WITHIN GROUP (ORDER BY wait)::float8 AS "waitP95",
    percentile_cont(0.5) WITHIN GROUP (ORDER BY sojourn - wait)::float8 AS "serviceP50",
    percentile_cont(0.95) WITHIN GROUP (ORDER BY sojourn - wait)::float8 AS "serviceP95",
    sum(sojourn)::float8 AS total, sum(wait)::float8 AS waited, avg(sojourn)::float8 AS mean,
    max(l.area)::float8 AS area, max(l.busy)::float8 AS busy
  FROM split s JOIN levels l USING (hop, path)
  GROUP BY s.hop, s.path`

interface Row extends Omit<HopLoad, 'kind' | 'shareOfTime' | 'utilisation' | 'arrivalsPerSecond'> {
  readonly total: number
  readonly waited: number
  readonly mean: number
  readonly area: number | null
  readonly busy: number | null
}

/** Where the time goes: every hop of both paths over the last `sinceMs`, in one statement. */
export async function bottleneck(ledger: Pool, sinceMs: number): Promise<Bottleneck> {
  const clock = await ledger.query<{ now: string; start: string }>(
    `SELECT n::text AS now, (n - $1::float8 * interval '1 ms')::text AS start FROM clock_timestamp() n`,
    [sinceMs],
  )
  const { now, start } = clock.rows[0]!
  const { rows } = await ledger.query<Row>(statement, [now, start])
  const machine = new Map<Path, number>()
  for (const row of rows) {
    if (!row.human) machine.set(row.path, (machine.get(row.path) ?? 0) + row.total)
  }
  const hops = rows
    .map(({ total, waited, mean, area, busy, ...row }): HopLoad => {
      const all = machine.get(row.path) ?? 0
      return {
        ...row,
        arrivalsPerSecond: (row.arrivals / sinceMs) * 1000,
        shareOfTime: row.human || all === 0 ? 0 : total / all,
        utilisation: Math.min(1, (busy ?? 0) / sinceMs),
        kind: waited > total - waited ? 'queueing' : 'processing',
        inSystem: (area ?? 0) / sinceMs,
        lambdaW: (row.arrivals / sinceMs) * mean,
      }
    })
    .toSorted((a, b) => Number(a.human) - Number(b.human) || b.inSystem - a.inSystem)
  return { windowMs: sinceMs, hops, worst: hops.find((hop) => !hop.human) }
}
