import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'

import { seriesOf } from './metrics.ts'
import type { Count, Definition, Labels, Metrics, Sample, Timing, Values } from './metrics.ts'

const fewSeries = 100

/** By the library of Prometheus, in a registry of this process. */
export class PrometheusMetrics implements Metrics {
  readonly #registry = new Registry()

  get contentType(): string {
    return this.#registry.contentType
  }

  /** Memory, CPU, event loop and descriptors of this process. */
  describeProcess(): void {
    collectDefaultMetrics({ register: this.#registry })
  }

  counter<const Of extends Labels>(definition: Definition<Of>): Count<Of> {
    const counter = new Counter({ ...this.#common(definition) })
    const all = seriesOf(definition.labels)
    // There from the start, so that the first one counts as a rise; not where they are many.
    if (all.length <= fewSeries) for (const values of all) counter.inc(values, 0)
    const bound = binder(definition.labels)
    return { add: (labels, by = 1) => counter.inc(bound(labels), by) }
  }

  timing<const Of extends Labels>(
    definition: Definition<Of>,
    bucketSeconds: readonly number[],
  ): Timing<Of> {
    const histogram = new Histogram({
      ...this.#common(definition),
      buckets: [...bucketSeconds],
    })
    const bound = binder(definition.labels)
    return { observe: (labels, seconds) => histogram.observe(bound(labels), seconds) }
  }

  counted<const Of extends Labels>(
    definition: Definition<Of>,
    read: () => readonly Sample<Of>[],
  ): void {
    const bound = binder(definition.labels)
    const counter: Counter = new Counter({
      ...this.#common(definition),
      collect: () => {
        counter.reset()
        for (const { labels, value } of read()) counter.inc(bound(labels), value)
      },
    })
  }

  gauge<const Of extends Labels>(
    definition: Definition<Of>,
    read: () => readonly Sample<Of>[] | Promise<readonly Sample<Of>[]>,
  ): void {
    const bound = binder(definition.labels)
    const gauge: Gauge = new Gauge({
      ...this.#common(definition),
      collect: async () => {
        const samples = await read()
        gauge.reset()
        for (const { labels, value } of samples) gauge.inc(bound(labels), value)
      },
    })
  }

  /** In the text format of Prometheus. */
  text(): Promise<string> {
    return this.#registry.metrics()
  }

  #common({ name, help, labels }: Definition<Labels>): {
    name: string
    help: string
    labelNames: string[]
    registers: Registry[]
  } {
    return { name, help, labelNames: Object.keys(labels), registers: [this.#registry] }
  }
}

/** Only what is in the lists leaves here, in a new object: a label that nobody declared is dropped. */
function binder<Of extends Labels>(labels: Of): (values: Values<Of>) => Record<string, string> {
  const known = Object.entries(labels).map(([name, values]) => [name, new Set(values)] as const)
  return (values) => {
    const bound: Record<string, string> = {}
    for (const [name, allowed] of known) {
      const value = values[name]
      bound[name] = value !== undefined && allowed.has(value) ? value : 'other'
    }
    return bound
  }
}
