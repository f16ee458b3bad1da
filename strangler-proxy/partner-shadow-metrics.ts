import { shadowEndpoints } from '../contracts/partner-shadow.ts'
import type { Metrics } from '../runtime/metrics.ts'
import { droppedReasons, type PartnerShadow } from './partner-shadow.ts'

const outcomes = ['eligible', 'compared', 'differing', 'dropped'] as const

export function partnerShadowMetrics(metrics: Metrics, shadow: PartnerShadow): void {
  metrics.counted(
    {
      name: 'strangler_proxy_shadow_total',
      help: 'Answers to partners that the other side is to be asked for as well; eligible = compared + dropped, once none is under way.',
      labels: { endpoint: shadowEndpoints, outcome: outcomes },
    },
    () =>
      [...shadow.numbers().counts].flatMap(([endpoint, counts]) =>
        outcomes.map((outcome) => ({ labels: { endpoint, outcome }, value: counts[outcome] })),
      ),
  )
  metrics.counted(
    {
      name: 'strangler_proxy_shadow_dropped_total',
      help: 'Answers that were not compared. busy: no place; unreachable: no answer, or not in time; not_seen, too_large: not kept whole; waiting: an order that is not at the MES yet.',
      labels: { reason: droppedReasons },
    },
    () =>
      [...shadow.numbers().droppedFor].map(([reason, value]) => ({ labels: { reason }, value })),
  )
  metrics.gauge(
    {
      name: 'strangler_proxy_shadow_under_way',
      help: 'Answers that wait to be compared.',
      labels: {},
    },
    () => [{ labels: {}, value: shadow.numbers().underWay }],
  )
}
