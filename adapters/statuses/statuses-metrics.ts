import type { Verdict } from '../../contracts/status-rules.ts'
import type { Compared } from '../../delivery/parity-book.ts'
import type { Metrics } from '../../runtime/metrics.ts'
import type { ShadowedPhase } from '../shadow/to-compare.ts'
import { toCompare } from '../shadow/to-compare.ts'

const states = [
  'applied',
  'superseded',
  'backward',
  'waiting',
  'parked',
] as const satisfies readonly Verdict['state'][]
const results = ['same', 'different', 'unasked', 'skipped'] as const

export function applierMetrics(metrics: Metrics): (state: Verdict['state']) => void {
  const statuses = metrics.counter({
    name: 'strangler_applier_statuses_total',
    help: 'Statuses and prices of the status inbox, by what became of them; one that waits is counted at each try.',
    labels: { outcome: states },
  })
  return (outcome) => statuses.add({ outcome })
}

export function shadowMetrics(
  metrics: Metrics,
): (phase: ShadowedPhase, compared: Compared) => void {
  const comparisons = metrics.counter({
    name: 'strangler_shadow_comparisons_total',
    help: 'What CRM did against what we would have done, in messages; unasked are writes of CRM that no message asked for.',
    labels: { phase: Object.keys(toCompare), result: results },
  })
  return (phase, compared) => {
    for (const result of results) comparisons.add({ phase, result }, compared[result])
  }
}
