import type { Metrics } from '../runtime/metrics.ts'
import type { CourierBeat } from './courier-tally.ts'
import { sendOutcomes } from './courier.ts'

interface CourierMetrics {
  onBeat(slot: number, beat: CourierBeat): void
  onDeath(slot: number, how: 'silent' | 'died' | 'stopped'): void
}

/** Of a supervisor and its children, as their beats tell. What a child did since its last beat is lost with it. */
export function courierMetrics(metrics: Metrics): CourierMetrics {
  const sends = metrics.counter({
    name: 'strangler_courier_sends_total',
    help: 'Orders sent towards the MES, by what became of the send.',
    labels: { outcome: sendOutcomes },
  })
  const deaths = metrics.counter({
    name: 'strangler_courier_deaths_total',
    help: 'Courier children that ended by themselves, or were killed because they fell silent.',
    labels: { how: ['died', 'silent'] },
  })
  const spans = metrics.counter({
    name: 'strangler_courier_spans_total',
    help: 'Spans of courier children, by what became of them.',
    labels: { outcome: ['exported', 'dropped'] },
  })
  const alive = new Map<number, CourierBeat>()
  const sum = (of: (beat: CourierBeat) => number): { labels: object; value: number }[] => [
    { labels: {}, value: [...alive.values()].reduce((total, beat) => total + of(beat), 0) },
  ]
  metrics.gauge(
    {
      name: 'strangler_courier_children',
      help: 'Courier children that give signs of life.',
      labels: {},
    },
    () => sum(() => 1),
  )
  metrics.gauge(
    {
      name: 'strangler_courier_breakers_open',
      help: 'Courier children that do not reach the broker and only probe.',
      labels: {},
    },
    () => sum(({ breaker }) => (breaker === 'open' ? 1 : 0)),
  )
  metrics.gauge(
    {
      name: 'strangler_courier_children_resident_memory_bytes',
      help: 'Memory of all courier children.',
      labels: {},
    },
    () => sum(({ rssBytes }) => rssBytes),
  )
  return {
    onBeat(slot, beat) {
      alive.set(slot, beat)
      for (const outcome of sendOutcomes) sends.add({ outcome }, beat.sends[outcome] ?? 0)
      spans.add({ outcome: 'exported' }, beat.spans.exported)
      spans.add({ outcome: 'dropped' }, beat.spans.dropped)
    },
    onDeath(slot, how) {
      alive.delete(slot)
      if (how !== 'stopped') deaths.add({ how })
    },
  }
}
