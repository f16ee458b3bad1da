import { partnerProblems } from '../contracts/partner-problems.ts'
import type { Metrics } from '../runtime/metrics.ts'

const answered = new Set([
  200,
  201,
  202,
  499,
  ...Object.values(partnerProblems).map(({ status }) => status),
])

/** By route as the application names it, never by path: a label holds no text of the client's. */
export function intakeMetrics(
  metrics: Metrics,
): (call: { readonly route: string; readonly status: number }) => void {
  const calls = metrics.counter({
    name: 'strangler_intake_requests_total',
    help: 'Calls of the partner API by route and answer; 499: the client was gone before.',
    labels: { route: ['/orders', '/orders/:id'], status: [...answered].map(String) },
  })
  return ({ route, status }) => calls.add({ route, status: String(status) }, 1)
}
