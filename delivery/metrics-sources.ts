import type { Log } from '../runtime/log.ts'
import {
  type Labels,
  type Metrics,
  type Sample,
  seriesOf,
  type Values,
} from '../runtime/metrics.ts'
import type { Pool } from '../runtime/postgres.ts'

/** What was last read of a source; undefined = it does not answer. */
export type Source<Row> = () => Promise<readonly Row[] | undefined>

/**
 * Sources of metrics, read at most once in a while however often they are asked, and by one reader at a time. One that does not
 * answer leaves no value behind, not an old one, and is told apart in `strangler_source_up`.
 */
export class MetricsSources {
  readonly #ledger: Pool
  readonly #log: Log
  readonly #sources = new Map<string, Source<unknown>>()

  /** @param ledger with a limit for statements: a slow ledger makes a gap in the charts, and keeps nobody waiting */
  constructor(ledger: Pool, log: Log) {
    this.#ledger = ledger
    this.#log = log
  }

  query<Row extends object>(name: string, text: string, freshMs?: number): Source<Row> {
    return this.add(name, async () => (await this.#ledger.query<Row>(text)).rows, freshMs)
  }

  add<Row>(name: string, read: () => Promise<readonly Row[]>, freshMs = 5000): Source<Row> {
    let readAt = Number.NEGATIVE_INFINITY
    let told = false
    let rows: Promise<readonly Row[] | undefined> = Promise.resolve(undefined)
    const source = (): Promise<readonly Row[] | undefined> => {
      if (performance.now() - readAt < freshMs) return rows
      readAt = performance.now()
      rows = read().then(
        (found) => {
          told = false
          return found
        },
        (error: unknown) => {
          if (!told) this.#log.warn('metrics_source_away', { source: name, reason: String(error) })
          told = true
          return undefined
        },
      )
      return rows
    }
    this.#sources.set(name, source)
    return source
  }

  describe(metrics: Metrics): void {
    metrics.gauge(
      {
        name: 'strangler_source_up',
        help: '1 where a source of these metrics answers; 0 where its values are missing.',
        labels: { source: [...this.#sources.keys()] },
      },
      () =>
        Promise.all(
          [...this.#sources].map(async ([source, read]) => ({
            labels: { source },
            value: (await read()) === undefined ? 0 : 1,
          })),
        ),
    )
  }
}

/** A gauge over the rows of a source. */
export function gaugeOf<const Of extends Labels, Row>(
  metrics: Metrics,
  definition: { readonly name: string; readonly help: string; readonly labels: Of },
  source: Source<Row>,
  samplesOf: (row: Row) => readonly Sample<Of>[],
): void {
  metrics.gauge(definition, async () => ((await source()) ?? []).flatMap(samplesOf))
}

/** The same for a count: what the source has no row of is 0, as long as it answers. */
export function countOf<const Of extends Labels, Row>(
  metrics: Metrics,
  definition: { readonly name: string; readonly help: string; readonly labels: Of },
  source: Source<Row>,
  samplesOf: (row: Row) => readonly Sample<Of>[],
): void {
  metrics.gauge(definition, async () => {
    const rows = await source()
    return rows === undefined
      ? []
      : [...seriesOf(definition.labels).map(zero), ...rows.flatMap(samplesOf)]
  })
}

function zero<Of extends Labels>(labels: Values<Of>): Sample<Of> {
  return { labels, value: 0 }
}
