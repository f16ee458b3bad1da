import type { TraceContext } from '../contracts/trace-context.ts'
import { optional, readConfig, url } from './config.ts'
import type { Service } from './lifecycle.ts'
import type { Log } from './log.ts'

/** A piece of work that is over. `attributes` carry ids, labels and counts: no person, no body, no URL. */
export interface Span {
  readonly name: string
  readonly kind: 'server' | 'internal' | 'producer' | 'consumer'
  readonly context: TraceContext
  /** undefined: it begins its trace. */
  readonly parentSpanId: string | undefined
  /** performance.now() of this process. */
  readonly enteredAt: number
  readonly leftAt: number
  readonly attributes: Readonly<Record<string, string | number | boolean>>
  /** Why it failed: a code, not a text. */
  readonly failed?: string | undefined
}

export interface SpanNumbers {
  readonly exported: number
  readonly dropped: number
}

/**
 * Behind the work and never in its way: `record` returns at once, and what can't be exported is dropped and counted. `stop`
 * sends what waits, within a limit.
 */
export interface Tracing extends Service {
  /** False: nobody collects spans, so none need be made. */
  readonly on: boolean
  record(span: Span): void
  numbers(): SpanNumbers
}

export const noTracing: Tracing = {
  on: false,
  record: () => undefined,
  numbers: () => ({ exported: 0, dropped: 0 }),
  start: () => Promise.resolve(),
  stop: () => Promise.resolve(),
}

/** Tracing as the settings want it. The SDK is loaded only where there is an endpoint: it costs nothing where there is none. */
export async function openTracing(service: string, log: Log): Promise<Tracing> {
  const { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint } = readConfig({
    OTEL_EXPORTER_OTLP_ENDPOINT: optional(url('http', 'https')),
  })
  if (endpoint === undefined) return noTracing
  const { otlpTracing } = await import('./otlp-tracing.ts')
  return otlpTracing({ endpoint, service, log })
}
