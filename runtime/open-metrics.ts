import { optional, port, readConfig, text, withDefault } from './config.ts'
import type { Service } from './lifecycle.ts'
import type { Log } from './log.ts'
import type { Health } from './metrics-listener.ts'
import { type Metrics, noMetrics } from './metrics.ts'

interface OpenedMetrics {
  readonly metrics: Metrics
  /** Starts last and stops first: who asks, asks a process that works. */
  readonly listener: Service
}

/**
 * Metrics as the settings want them: served on `METRICS_PORT` (0 = any free one, which the log then names). Without it nothing
 * listens, nothing is counted, and the library (30 ms of CPU and 9 MB, measured) is not loaded.
 */
export async function openMetrics(log: Log, health?: Health): Promise<OpenedMetrics> {
  const { METRICS_PORT: listenPort, METRICS_HOST: host } = readConfig({
    METRICS_PORT: optional(port),
    METRICS_HOST: withDefault(text(), '127.0.0.1'),
  })
  if (listenPort === undefined) {
    const nothing = { start: () => Promise.resolve(), stop: () => Promise.resolve() }
    return { metrics: noMetrics, listener: nothing }
  }
  const { PrometheusMetrics } = await import('./prometheus.ts')
  const { metricsListener } = await import('./metrics-listener.ts')
  const metrics = new PrometheusMetrics()
  return {
    metrics,
    listener: metricsListener(metrics, { host, port: listenPort, log, ...(health && { health }) }),
  }
}
