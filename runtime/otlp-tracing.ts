import { setTimeout as delay } from 'node:timers/promises'

import { ROOT_CONTEXT, SpanKind, SpanStatusCode, trace, TraceFlags } from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { AlwaysOnSampler, BatchSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace'
import type { IdGenerator, SpanExporter } from '@opentelemetry/sdk-trace'

import { service as serviceOf } from './lifecycle.ts'
import type { Log } from './log.ts'
import type { Span, Tracing } from './tracing.ts'

interface OtlpOptions {
  /** Base address of the collector; `/v1/traces` is added. */
  readonly endpoint: string
  readonly service: string
  readonly log: Log
  readonly queueLimit?: number
  /** For what is still waiting at the stop. */
  readonly flushMs?: number
}

const kinds = {
  server: SpanKind.SERVER,
  internal: SpanKind.INTERNAL,
  producer: SpanKind.PRODUCER,
  consumer: SpanKind.CONSUMER,
} as const satisfies Record<Span['kind'], SpanKind>

const batchLimit = 512

/** The ids of our spans are known before they are made: other processes name them as parents. */
class GivenIds implements IdGenerator {
  traceId = ''
  spanId = ''

  generateTraceId(): string {
    return this.traceId
  }

  generateSpanId(): string {
    return this.spanId
  }
}

/** Spans to an OpenTelemetry collector, as JSON over HTTP, in batches. */
export function otlpTracing(options: OtlpOptions): Tracing {
  const { endpoint, service, log, queueLimit = 10_000, flushMs = 2000 } = options
  let waiting = 0
  let exported = 0
  let dropped = 0
  let told = false
  const ids = new GivenIds()
  const otlp = new OTLPTraceExporter({
    url: `${endpoint.replace(/\/+$/, '')}/v1/traces`,
    timeoutMillis: 5000,
  })
  // The processor drops in silence what it has no room for, so the room is kept here, where it is counted.
  const exporter: SpanExporter = {
    export: (spans, done) =>
      otlp.export(spans, (result) => {
        waiting -= spans.length
        if (result.error === undefined) exported += spans.length
        else dropped += spans.length
        // Once per outage, and without the reason: it quotes the address.
        if (result.error !== undefined && !told)
          log.warn('spans_not_exported', { spans: spans.length, dropped })
        told = result.error !== undefined
        done(result)
      }),
    shutdown: () => otlp.shutdown(),
  }
  const provider = new TracerProvider({
    resource: resourceFromAttributes({
      'service.name': service,
      'service.namespace': 'strangler',
      'service.instance.id': `${service}-${process.pid}`,
    }),
    // Whether a trace is sampled was decided where it began: its flag came along.
    sampler: new AlwaysOnSampler(),
    idGenerator: ids,
    spanProcessors: [
      new BatchSpanProcessor({
        exporter,
        maxQueueSize: queueLimit + batchLimit,
        maxExportBatchSize: batchLimit,
        scheduledDelayMillis: 500,
        exportTimeoutMillis: 6000,
      }),
    ],
  })
  const tracer = provider.getTracer('strangler')

  return {
    on: true,
    record(span) {
      const { context, parentSpanId, attributes, failed } = span
      if (!context.sampled) return
      if (waiting >= queueLimit) {
        dropped += 1
        return
      }
      waiting += 1
      ids.traceId = context.traceId
      ids.spanId = context.spanId
      const parent =
        parentSpanId === undefined
          ? ROOT_CONTEXT
          : trace.setSpanContext(ROOT_CONTEXT, {
              traceId: context.traceId,
              spanId: parentSpanId,
              traceFlags: TraceFlags.SAMPLED,
              isRemote: true,
            })
      const made = tracer.startSpan(
        span.name,
        {
          kind: kinds[span.kind],
          startTime: toEpoch(span.enteredAt),
          attributes: { ...attributes },
        },
        parent,
      )
      if (failed !== undefined) made.setStatus({ code: SpanStatusCode.ERROR, message: failed })
      made.end(toEpoch(span.leftAt))
    },
    numbers: () => ({ exported, dropped }),
    ...serviceOf({
      start: () => Promise.resolve(),
      async stop() {
        const over = new AbortController()
        await Promise.race([
          // A collector that refuses has been counted; one that hangs is given up.
          provider.shutdown().catch(() => undefined),
          delay(flushMs, undefined, { signal: over.signal }).catch(() => undefined),
        ])
        over.abort()
        if (waiting > 0) log.warn('spans_lost_at_stop', { spans: waiting })
        dropped += waiting
        waiting = 0
      },
    }),
  }
}

function toEpoch(at: number): number {
  return performance.timeOrigin + at
}
