import type { Metrics } from '../../runtime/metrics.ts'
import type { Pool } from '../../runtime/postgres.ts'

export function intakeRelayMetrics(metrics: Metrics, intake: Pool): (orders: number) => void {
  const relayed = metrics.counter({
    name: 'strangler_intake_relay_orders_total',
    help: 'Orders of partners that were taken from the intake to the ledger.',
    labels: {},
  })
  metrics.gauge(
    {
      name: 'strangler_intake_outbox_orders',
      help: 'Orders of partners that the intake has accepted and that wait for their turn to go on to the MES.',
      labels: {},
    },
    () => one(intake, 'count(*)::float8'),
  )
  metrics.gauge(
    {
      name: 'strangler_intake_outbox_oldest_seconds',
      help: 'Age of the oldest of them, 0 where there is none.',
      labels: {},
    },
    () => one(intake, 'coalesce(extract(epoch FROM clock_timestamp() - min(at)), 0)::float8'),
  )
  return (orders) => relayed.add({}, orders)
}

async function one(intake: Pool, value: string): Promise<{ labels: object; value: number }[]> {
  const { rows } = await intake.query<{ value: number }>(
    `SELECT ${value} AS value FROM outbox WHERE relayed_at IS NULL`,
  )
  return [{ labels: {}, value: rows[0]!.value }]
}
