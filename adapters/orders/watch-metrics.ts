import type { WatchRound } from '../../delivery/watch.ts'
import type { Metrics } from '../../runtime/metrics.ts'

export function watchMetrics(metrics: Metrics): (round: WatchRound) => void {
  const rounds = metrics.counter({
    name: 'strangler_watch_rounds_total',
    help: 'Rounds as the leader: where no watch counts up, nobody takes over from dead couriers.',
    labels: {},
  })
  const orders = metrics.counter({
    name: 'strangler_watch_orders_total',
    help: 'Orders taken over from dead couriers into doubt, and doubts settled: the MES has it, or it was proved absent and goes again.',
    labels: { act: ['taken_over', 'settled_delivered', 'settled_resent'] },
  })
  return ({ takenOver, delivered, resent }) => {
    rounds.add({})
    orders.add({ act: 'taken_over' }, takenOver)
    orders.add({ act: 'settled_delivered' }, delivered)
    orders.add({ act: 'settled_resent' }, resent)
  }
}
