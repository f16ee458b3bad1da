import type { Metrics } from './metrics.ts'
import type { Tracing } from './tracing.ts'

export function tracingMetrics(metrics: Metrics, tracing: Tracing): void {
  metrics.counted(
    {
      name: 'strangler_spans_total',
      help: 'Spans of this process, by what became of them: dropped are those that no collector took.',
      labels: { outcome: ['exported', 'dropped'] },
    },
    () => {
      const { exported, dropped } = tracing.numbers()
      return [
        { labels: { outcome: 'exported' }, value: exported },
        { labels: { outcome: 'dropped' }, value: dropped },
      ]
    },
  )
}
