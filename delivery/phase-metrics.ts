import type { Metrics } from '../runtime/metrics.ts'
import { countOf, gaugeOf } from './metrics-sources.ts'
import type { MetricsSources } from './metrics-sources.ts'

const verdicts = ['PASS', 'FAIL', 'INCONCLUSIVE'] as const
const pins = ['hold', 'rollback', 'kill'] as const
const kinds = ['proxy', 'relay', 'bridge', 'courier', 'applier', 'reconciler'] as const

/** What is in force, what is wished, and what the gates say. */
export function phaseMetrics(
  metrics: Metrics,
  sources: MetricsSources,
  { phases, gates }: { readonly phases: readonly string[]; readonly gates: readonly string[] },
): void {
  const standing = sources.query<{
    phase: string
    share: number
    epoch: number
    pin: string | null
    wished: number | null
    wishAge: number | null
  }>(
    'phases',
    `SELECT p.phase, p.share, p.epoch, p.pin, w.share AS wished, extract(epoch FROM clock_timestamp() - w.read_at)::float8 AS "wishAge"
     FROM phase p LEFT JOIN wish w ON w.phase = p.phase`,
  )
  gaugeOf(
    metrics,
    {
      name: 'strangler_phase_share_ratio',
      help: 'Share of new orders: in force, and wished. A wish that is not known has no value.',
      labels: { phase: phases, kind: ['in force', 'wished'] },
    },
    standing,
    ({ phase, share, wished }) => [
      { labels: { phase, kind: 'in force' }, value: share / 10_000 },
      ...(wished === null ? [] : [{ labels: { phase, kind: 'wished' }, value: wished / 10_000 }]),
    ],
  )
  countOf(
    metrics,
    {
      name: 'strangler_phase_epoch',
      help: 'Number of the state that is in force; every flip takes the next.',
      labels: { phase: phases },
    },
    standing,
    ({ phase, epoch }) => [{ labels: { phase }, value: epoch }],
  )
  countOf(
    metrics,
    {
      name: 'strangler_phase_pinned',
      help: '1 while a person keeps the phase where it is.',
      labels: { phase: phases, pin: pins },
    },
    standing,
    ({ phase, pin }) => (pin === null ? [] : [{ labels: { phase, pin }, value: 1 }]),
  )
  gaugeOf(
    metrics,
    {
      name: 'strangler_wish_age_seconds',
      help: 'Since the wish was last read from where people set it.',
      labels: { phase: phases },
    },
    standing,
    ({ phase, wishAge }) => (wishAge === null ? [] : [{ labels: { phase }, value: wishAge }]),
  )
  const judged = sources.query<{ phase: string; gate: string; verdict: string; age: number }>(
    'gates',
    `SELECT phase, gate, verdict, extract(epoch FROM clock_timestamp() - at)::float8 AS age FROM gate_result`,
  )
  gaugeOf(
    metrics,
    {
      name: 'strangler_gate',
      help: '1 for the latest verdict of a gate, 0 for the others. Look at its age: a verdict that is not renewed is worth nothing.',
      labels: { phase: phases, gate: gates, verdict: verdicts },
    },
    judged,
    ({ phase, gate, verdict }) =>
      verdicts.map((each) => ({
        labels: { phase, gate, verdict: each },
        value: each === verdict ? 1 : 0,
      })),
  )
  gaugeOf(
    metrics,
    {
      name: 'strangler_gate_age_seconds',
      help: 'Since the gate was last judged.',
      labels: { phase: phases, gate: gates },
    },
    judged,
    ({ phase, gate, age }) => [{ labels: { phase, gate }, value: age }],
  )
  countOf(
    metrics,
    {
      name: 'strangler_parity_messages',
      help: 'Messages that the shadow has compared, and those of them that differed, since the beginning.',
      labels: { phase: phases, result: ['compared', 'differing'] },
    },
    sources.query<{ phase: string; compared: number; differing: number }>(
      'parity',
      `SELECT phase, sum(compared)::float8 AS compared, sum(differing)::float8 AS differing FROM parity_count GROUP BY phase`,
    ),
    ({ phase, compared, differing }) => [
      { labels: { phase, result: 'compared' }, value: compared },
      { labels: { phase, result: 'differing' }, value: differing },
    ],
  )
  countOf(
    metrics,
    {
      name: 'strangler_replicas_live',
      help: 'Processes within their lease that acknowledge epochs, by kind.',
      labels: { kind: kinds },
    },
    sources.query<{ kind: string; live: number }>(
      'replicas',
      `SELECT kind, (count(*) FILTER (WHERE seen_at > clock_timestamp() - lease_ms * interval '1 ms'))::int AS live
       FROM replica GROUP BY kind`,
    ),
    ({ kind, live }) => [{ labels: { kind }, value: live }],
  )
}
