import type { Metrics } from '../../runtime/metrics.ts'
import type { RelayedBatch } from './relay.ts'

const outcomes = ['direct', 'legacy', 'known', 'unreadable'] as const

export function relayMetrics(metrics: Metrics): (batch: RelayedBatch) => void {
  const orders = metrics.counter({
    name: 'strangler_relay_orders_total',
    help: 'Submitted orders taken from the outbox: new in the ledger by path, known there already, or unreadable.',
    labels: { outcome: outcomes },
  })
  return (batch) => {
    for (const outcome of outcomes) orders.add({ outcome }, batch[outcome])
  }
}
