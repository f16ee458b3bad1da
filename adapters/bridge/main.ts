import { integer, optional, readConfig, text, url, withDefault } from '../../runtime/config.ts'
import { inOrder, service } from '../../runtime/lifecycle.ts'
import { createLog } from '../../runtime/log.ts'
import { createPool } from '../../runtime/postgres.ts'
import { runProcess } from '../../runtime/run-process.ts'
import { openBroker } from '../broker/open-broker.ts'
import { statusesDoorbell } from '../statuses/statuses-doorbell.ts'
import { legacyLinks } from '../wire/legacy-topology.ts'
import { bridge } from './bridge.ts'

const log = createLog('bridge')

await runProcess(log, () => {
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
  const ledger = createPool(config.LEDGER_URL, { name, max: 10, log })
  const shop = createPool(config.SHOP_URL, { name, max: 2, log })
  const mes = createPool(config.MES_URL, { name, max: 2, log })
  const broker = openBroker(config.BROKER_URL, {
    managementUrl: config.AMQP_MANAGEMENT_URL,
    log,
  })
  log.info('bridge_starting', { broker: broker.kind })
  const bell = statusesDoorbell(config.QUEUE_URL, config.QUEUE_PREFIX, log)
  const connections = service({
    start: () => Promise.resolve(),
    async stop() {
      await bell?.close()
      await broker.close()
      await Promise.all([ledger.end(), shop.end(), mes.end()])
    },
  })
  const settleMs = config.BRIDGE_SETTLE_MS
  const bridges = legacyLinks.map(({ queue }) =>
    bridge({
      queue,
      broker,
      ledger,
      shop,
      mes,
      settleMs,
      ring: (orders) => bell?.ring(orders),
      log,
    }),
  )
  return inOrder([connections, ...bridges])
})
