import type { HopRecorder } from '../runtime/hop-recorder.ts'
import type { Metrics } from '../runtime/metrics.ts'
import { failureKinds } from './failure.ts'
import type { EndedRequest, ProxyListener } from './proxy-listener.ts'

const doors = ['shop', 'crm', 'mes'] as const
const classes = ['page', 'write', 'upload', 'stream']
// From a page out of memory to a big model on a slow line.
const buckets = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120]

interface ProxyMetrics {
  onEnded(door: string, ended: EndedRequest): void
  describe(listeners: ReadonlyMap<string, ProxyListener>, recorder: HopRecorder): void
}

export function proxyMetrics(metrics: Metrics): ProxyMetrics {
  const requests = metrics.counter({
    name: 'strangler_proxy_requests_total',
    help: 'Requests that are over. Outcome: passed, or why not; an error answer of the system behind is passed as well.',
    labels: {
      door: doors,
      method: ['read', 'write'],
      status: ['1xx', '2xx', '3xx', '4xx', '5xx', 'none'],
      outcome: ['passed', ...Object.keys(failureKinds)],
    },
  })
  const durations = metrics.timing(
    {
      name: 'strangler_proxy_request_seconds',
      help: 'From the complete head of a request to the last byte of its answer; a stream lasts as long as it is watched.',
      labels: { door: doors, class: classes },
    },
    buckets,
  )
  return {
    onEnded(door, { method, status, outcome, pumped }) {
      requests.add({
        door,
        method: method === 'GET' || method === 'HEAD' ? 'read' : 'write',
        status: status < 100 ? 'none' : `${Math.trunc(status / 100)}xx`,
        outcome,
      })
      if (pumped !== undefined)
        durations.observe({ door, class: pumped.routeClass }, pumped.ms / 1000)
    },
    describe(listeners, recorder) {
      const all = [...listeners].map(([door, listener]) => ({
        door,
        read: () => listener.numbers(),
      }))
      metrics.gauge(
        {
          name: 'strangler_proxy_in_flight',
          help: 'Requests under way.',
          labels: { door: doors },
        },
        () => all.map(({ door, read }) => ({ labels: { door }, value: read().inFlight })),
      )
      metrics.gauge(
        {
          name: 'strangler_proxy_event_streams',
          help: 'Of these, streams of events.',
          labels: { door: doors },
        },
        () => all.map(({ door, read }) => ({ labels: { door }, value: read().eventStreams })),
      )
      metrics.gauge(
        {
          name: 'strangler_proxy_places',
          help: 'Connections to the system behind that are taken, and requests that wait for one.',
          labels: { door: doors, class: classes, kind: ['taken', 'waiting'] },
        },
        () =>
          all.flatMap(({ door, read }) =>
            Object.entries(read().places).flatMap(([name, { taken, waiting }]) => [
              { labels: { door, class: name, kind: 'taken' }, value: taken },
              { labels: { door, class: name, kind: 'waiting' }, value: waiting },
            ]),
          ),
      )
      metrics.counted(
        {
          name: 'strangler_proxy_hops_total',
          help: 'Steps of orders recorded in the ledger, or dropped because it was away for too long.',
          labels: { outcome: ['recorded', 'dropped'] },
        },
        () => {
          const { recorded, dropped } = recorder.numbers()
          return [
            { labels: { outcome: 'recorded' }, value: recorded },
            { labels: { outcome: 'dropped' }, value: dropped },
          ]
        },
      )
      metrics.gauge(
        {
          name: 'strangler_proxy_hops_waiting',
          help: 'Steps of orders that are not in the ledger yet.',
          labels: {},
        },
        () => [{ labels: {}, value: recorder.numbers().waiting }],
      )
    },
  }
}
