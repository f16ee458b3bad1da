import { connectBroker } from '../broker/broker.ts'
import { openDatabase } from '../database.ts'
import { forgiving } from '../forgiving-handler.ts'
import { listen } from '../http-server.ts'
import { logAs } from '../log.ts'
import { ModelStore } from '../model-store.ts'
import { runService } from '../run-service.ts'
import { Settings } from '../settings.ts'
import { ChangeFeed } from './change-feed.ts'
import { crmMessagesToOrders } from './crm-messages-to-orders.ts'
import { mesApplication } from './mes-application.ts'
import { OrdersInWork } from './orders-in-work.ts'
import { OutgoingEvents } from './outgoing-events.ts'
import { PriceQueue } from './price-queue.ts'

const log = logAs('mes')

await runService(log, async (abandoned) => {
  const settings = new Settings(process.env)
  const host = settings.text('HOST', '127.0.0.1')
  const port = settings.port('PORT')
  const databaseUrl = settings.databaseUrl('MES_DATABASE_URL')
  const brokerUrl = settings.brokerUrl('BROKER_URL')
  const modelFolder = settings.text('MODEL_DIR')
  const microsecondsPerTriangle = settings.number('MES_PRICE_US_PER_TRIANGLE', 2, {
    min: 0,
    max: 1_000_000,
  })
  const consumeDelayMs = settings.integer('MES_CONSUME_DELAY_MS', 0, { min: 0, max: 3_600_000 })
  const partners = settings.texts('MES_PARTNERS')
  settings.check()

  const pool = openDatabase(databaseUrl, 'mes', log)
  const store = new ModelStore(modelFolder, 'mes')
  await store.start()
  const broker = await connectBroker(brokerUrl, { log }, abandoned)
  const feed = new ChangeFeed()
  const events = new OutgoingEvents(pool, broker, log)
  const orders = new OrdersInWork(pool, events, feed, () => new Date())
  const prices = new PriceQueue({ pool, store, orders, microsecondsPerTriangle, log })
  const orderStored = () => prices.orderStored()
  const app = mesApplication({ pool, store, orders, orderStored, partners, feed, log })
  const server = await listen(app, host, port)
  events.start()
  prices.start()
  const handler = crmMessagesToOrders({ orders, orderStored, consumeDelayMs, log })
  broker.consume('mes.orders', 10, forgiving(handler, log))
  return {
    port: server.port,
    stop: async () => {
      feed.end()
      await Promise.all([server.stop(), prices.stop()])
      // The events of the last work leave over the broker, so it closes after them.
      await events.stop()
      await broker.close()
      await pool.end()
    },
  }
})
