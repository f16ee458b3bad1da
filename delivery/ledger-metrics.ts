import { deliveryStates } from '../contracts/order.ts'
import type { Log } from '../runtime/log.ts'
import type { Metrics, Sample } from '../runtime/metrics.ts'
import type { Pool } from '../runtime/postgres.ts'
import { bottleneck } from './bottleneck.ts'
import type { HopLoad } from './bottleneck.ts'
import { countOf, gaugeOf, MetricsSources } from './metrics-sources.ts'
import type { Source } from './metrics-sources.ts'
import { phaseMetrics } from './phase-metrics.ts'
import { countUnsettled } from './unsettled-statuses.ts'

interface LedgerMetricsOptions {
  /** A pool of its own, with a limit for statements. */
  readonly ledger: Pool
  readonly phases: readonly string[]
  readonly gates: readonly string[]
  /** The legacy queues. */
  readonly queues: readonly string[]
  /** Messages ready in these and in ours before them, `bridge of <queue>`; rejects when the broker does not answer. */
  depths(): Promise<readonly Sample<{ readonly queue: readonly string[] }>[]>
  readonly log: Log
}

const paths = ['legacy', 'direct'] as const
// The names that `bottleneck` gives its hops, besides a bridge each.
const hops = ['relay', 'queue', 'CRM', 'status inbox', 'parked status', 'MES', 'seller', 'operator']

const windowMs = 300_000
// The statement over the hops reads all that came in its window.
const freshHopsMs = 20_000

interface Standing {
  path: string
  state: string
  orders: number
  oldest: number
}

const standing = (where: string): string =>
  `SELECT path, state, count(*)::int AS orders, extract(epoch FROM clock_timestamp() - min(accepted_at))::float8 AS oldest
   FROM order_ledger WHERE ${where} GROUP BY path, state`

/**
 * What the ledger knows, for Prometheus: orders, statuses, messages, hops, phases and gates. Of one process, not of every replica:
 * nothing is counted twice.
 */
export function ledgerMetrics(metrics: Metrics, options: LedgerMetricsOptions): void {
  const { ledger, queues, log } = options
  const sources = new MetricsSources(ledger, log)
  orderMetrics(metrics, sources)
  statusMetrics(
    metrics,
    sources.add('status inbox', () => countUnsettled(ledger)),
  )
  bridgeInboxMetrics(metrics, sources, queues)
  metrics.gauge(
    {
      name: 'strangler_queue_messages',
      help: 'Messages ready in the two legacy queues of the broker, and in ours before them.',
      labels: { queue: queues.flatMap((queue) => [queue, `bridge of ${queue}`]) },
    },
    withoutGap(sources.add('queues', () => options.depths())),
  )
  hopMetrics(
    metrics,
    sources.add('hops', async () => (await bottleneck(ledger, windowMs)).hops, freshHopsMs),
    queues,
  )
  phaseMetrics(metrics, sources, options)
  sources.describe(metrics)
}

function withoutGap<Row>(source: Source<Row>): () => Promise<readonly Row[]> {
  return async () => (await source()) ?? []
}

function orderMetrics(metrics: Metrics, sources: MetricsSources): void {
  const labels = { path: paths, state: deliveryStates }
  const unsettled = "state NOT IN ('delivered', 'dead', 'cancelled')"
  // An arm for each partial index.
  const open = sources.query<Standing>(
    'orders',
    `${standing(unsettled)} UNION ALL ${standing("state = 'dead'")}`,
  )
  const openLabels = { path: paths, state: ['accepted', 'sending', 'in_doubt', 'dead'] }
  countOf(
    metrics,
    {
      name: 'strangler_orders',
      help: 'Orders that are not delivered, by path and state; dead ones wait for a person.',
      labels: openLabels,
    },
    open,
    ({ path, state, orders }) => [{ labels: { path, state }, value: orders }],
  )
  countOf(
    metrics,
    {
      name: 'strangler_orders_oldest_seconds',
      help: 'Age of the oldest of them since it was accepted, 0 where there is none.',
      labels: openLabels,
    },
    open,
    ({ path, state, oldest }) => [{ labels: { path, state }, value: oldest }],
  )
  countOf(
    metrics,
    {
      name: 'strangler_orders_recent',
      help: 'Orders accepted in the last five minutes, by path and the state they are in now.',
      labels,
    },
    sources.query<Standing>(
      'recent orders',
      standing(`accepted_at >= clock_timestamp() - ${windowMs} * interval '1 ms'`),
    ),
    ({ path, state, orders }) => [{ labels: { path, state }, value: orders }],
  )
}

function statusMetrics(
  metrics: Metrics,
  source: Source<Awaited<ReturnType<typeof countUnsettled>>[number]>,
): void {
  const labels = { state: ['open', 'waiting', 'parked'] }
  countOf(
    metrics,
    {
      name: 'strangler_status_inbox',
      help: 'Statuses and prices that are not in the Shop yet; parked ones wait for a person.',
      labels,
    },
    source,
    ({ state, events }) => [{ labels: { state }, value: events }],
  )
  countOf(
    metrics,
    {
      name: 'strangler_status_inbox_oldest_seconds',
      help: 'Age of the oldest of them, 0 where there is none.',
      labels,
    },
    source,
    ({ state, oldestMs = 0 }) => [{ labels: { state }, value: oldestMs / 1000 }],
  )
}

function bridgeInboxMetrics(
  metrics: Metrics,
  sources: MetricsSources,
  queues: readonly string[],
): void {
  const inbox = sources.query<{ queue: string; state: string; messages: number; oldest: number }>(
    'bridge inbox',
    `SELECT queue, state, count(*)::int AS messages, extract(epoch FROM clock_timestamp() - min(received_at))::float8 AS oldest
     FROM bridge_inbox WHERE state IN ('received', 'held', 'parked') GROUP BY queue, state`,
  )
  const labels = { queue: queues, state: ['received', 'held', 'parked'] }
  countOf(
    metrics,
    {
      name: 'strangler_bridge_inbox',
      help: 'Messages at a bridge that are not settled: held for evidence, or parked for a person.',
      labels,
    },
    inbox,
    ({ queue, state, messages }) => [{ labels: { queue, state }, value: messages }],
  )
  countOf(
    metrics,
    {
      name: 'strangler_bridge_inbox_oldest_seconds',
      help: 'Age of the oldest of them, 0 where there is none.',
      labels,
    },
    inbox,
    ({ queue, state, oldest }) => [{ labels: { queue, state }, value: oldest }],
  )
  const bridges = sources.query<{ queue: string; inserted: number; changes: number }>(
    'bridges',
    `SELECT queue, (state = 'inserted')::int AS inserted, topology_changes AS changes FROM bridge`,
  )
  countOf(
    metrics,
    {
      name: 'strangler_bridge_inserted',
      help: '1 where the bridge of a legacy queue is in.',
      labels: { queue: queues },
    },
    bridges,
    ({ queue, inserted }) => [{ labels: { queue }, value: inserted }],
  )
  countOf(
    metrics,
    {
      name: 'strangler_bridge_topology_changes',
      help: 'How often the bindings of a legacy queue were changed, ever: in and out make two, a flip none.',
      labels: { queue: queues },
    },
    bridges,
    ({ queue, changes }) => [{ labels: { queue }, value: changes }],
  )
}

function hopMetrics(metrics: Metrics, source: Source<HopLoad>, queues: readonly string[]): void {
  const labels = { hop: [...hops, ...queues.map((queue) => `bridge ${queue}`)], path: paths }
  gaugeOf(
    metrics,
    {
      name: 'strangler_hop_seconds',
      help: 'Time of orders in a hop over the last five minutes: waiting, and being worked on.',
      labels: { ...labels, part: ['wait', 'service'], quantile: ['0.5', '0.95'] },
    },
    source,
    ({ hop, path, waitP50, waitP95, serviceP50, serviceP95 }) => [
      { labels: { hop, path, part: 'wait', quantile: '0.5' }, value: waitP50 / 1000 },
      { labels: { hop, path, part: 'wait', quantile: '0.95' }, value: waitP95 / 1000 },
      { labels: { hop, path, part: 'service', quantile: '0.5' }, value: serviceP50 / 1000 },
      { labels: { hop, path, part: 'service', quantile: '0.95' }, value: serviceP95 / 1000 },
    ],
  )
  countOf(
    metrics,
    {
      name: 'strangler_hop_in_flight',
      help: 'Orders that are in a hop now, of those that came to it in the last five minutes.',
      labels,
    },
    source,
    ({ hop, path, inFlight }) => [{ labels: { hop, path }, value: inFlight }],
  )
  countOf(
    metrics,
    {
      name: 'strangler_hop_arrivals_per_second',
      help: 'Orders that came to a hop, over the last five minutes.',
      labels,
    },
    source,
    ({ hop, path, arrivalsPerSecond }) => [{ labels: { hop, path }, value: arrivalsPerSecond }],
  )
}
