import type { Metrics } from '../../runtime/metrics.ts'
import type { Bridge } from './bridge.ts'

const decisions = ['forwarded', 'suppressed', 'diverted', 'held', 'parked', 'unreadable'] as const

/** What passed the bridges of this process, as they count it. */
export function bridgeMetrics(metrics: Metrics, bridges: ReadonlyMap<string, Bridge>): void {
  const queues = [...bridges.keys()]
  metrics.counted(
    {
      name: 'strangler_bridge_received_total',
      help: 'Messages taken from the legacy exchange.',
      labels: { queue: queues },
    },
    () =>
      [...bridges].map(([queue, { counters }]) => ({
        labels: { queue },
        value: counters.received,
      })),
  )
  metrics.counted(
    {
      name: 'strangler_bridge_messages_total',
      help: 'Messages by what the bridge did with them; unreadable ones were forwarded as well.',
      labels: { queue: queues, decision: decisions },
    },
    () =>
      [...bridges].flatMap(([queue, { counters }]) =>
        decisions.map((decision) => ({
          labels: { queue, decision },
          value: counters[decision],
        })),
      ),
  )
}
