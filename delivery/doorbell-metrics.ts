import type { Count, Metrics } from '../runtime/metrics.ts'

/** The doorbells that this process may ring; `failed` rings cost a sweep, no order. */
export function ringCounter(
  metrics: Metrics,
): Count<{ readonly queue: readonly string[]; readonly outcome: readonly string[] }> {
  return metrics.counter({
    name: 'strangler_doorbell_rings_total',
    help: 'Orders rung for, or not: a ring that failed is made good by the sweep.',
    labels: { queue: ['orders', 'statuses'], outcome: ['rung', 'failed'] },
  })
}
