import { ringCounter } from '../../delivery/doorbell-metrics.ts'
import type { Ring } from '../../delivery/doorbell.ts'
import { epochLease } from '../../flags/replicas.ts'
import { integer, optional, readConfig, text, url, withDefault } from '../../runtime/config.ts'
import { inOrder, service } from '../../runtime/lifecycle.ts'
import { createLog } from '../../runtime/log.ts'
import { openMetrics } from '../../runtime/open-metrics.ts'
import { createPool, frozenAfterMs } from '../../runtime/postgres.ts'
import { runProcess } from '../../runtime/run-process.ts'
import { tracingMetrics } from '../../runtime/tracing-metrics.ts'
import { openTracing } from '../../runtime/tracing.ts'
import { openBroker } from '../broker/open-broker.ts'
import { statusesDoorbell, statusesQueue } from '../statuses/statuses-doorbell.ts'
import { legacyLinks } from '../wire/legacy-topology.ts'
import { bridgeMetrics } from './bridge-metrics.ts'
import { bridge } from './bridge.ts'

const log = createLog('bridge')

await runProcess(log, async () => {
  const config = readConfig({
    LEDGER_URL: url('postgres', 'postgresql'),
    SHOP_URL: url('postgres', 'postgresql'),
    MES_URL: url('postgres', 'postgresql'),
    BROKER_URL: url('postgres', 'postgresql', 'amqp', 'amqps'),
    AMQP_MANAGEMENT_URL: optional(url('http', 'https')),
    QUEUE_URL: optional(url('redis', 'rediss', 'postgres', 'postgresql')),
    QUEUE_PREFIX: optional(text()),
    BRIDGE_SETTLE_MS: withDefault(integer({ min: 0, max: 600_000 }), 3000),
  })
  const name = 'strangler-bridge'
  const ledger = createPool(config.LEDGER_URL, {
    name,
    max: 10,
    idleInTransactionMs: frozenAfterMs,
    log,
  })
  const shop = createPool(config.SHOP_URL, { name, max: 2, log })
  const mes = createPool(config.MES_URL, { name, max: 2, log })
  const broker = openBroker(config.BROKER_URL, {
    managementUrl: config.AMQP_MANAGEMENT_URL,
    log,
  })
  log.info('bridge_starting', { broker: broker.kind })
  const { metrics, listener } = await openMetrics(log)
  const tracing = await openTracing('strangler-bridge', log)
  tracingMetrics(metrics, tracing)
  const rings = ringCounter(metrics)
  const bell = statusesDoorbell(config.QUEUE_URL, config.QUEUE_PREFIX, log, (outcome, orders) =>
    rings.add({ queue: statusesQueue, outcome }, orders),
  )
  const connections = service({
    start: () => Promise.resolve(),
    async stop() {
      await bell?.close()
      await broker.close()
      await Promise.all([ledger.end(), shop.end(), mes.end()])
    },
  })
  // It reads the route in the transaction of every decision, so there is nothing that it would have to stop.
  const lease = epochLease({ ledger, kind: 'bridge', log })
  const settleMs = config.BRIDGE_SETTLE_MS
  const ring = (orders: readonly Ring[]): void => bell?.ring(orders)
  const bridges = new Map(
    legacyLinks.map(({ queue }) => [
      queue,
      bridge({ queue, broker, ledger, shop, mes, settleMs, ring, tracing, log }),
    ]),
  )
  bridgeMetrics(metrics, bridges)
  return inOrder([tracing, connections, lease, ...bridges.values(), listener])
})
