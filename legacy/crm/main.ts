import { connectBroker } from '../broker/broker.ts'
import { openDatabase } from '../database.ts'
import { forgiving } from '../forgiving-handler.ts'
import { listen } from '../http-server.ts'
import { logAs } from '../log.ts'
import { runService } from '../run-service.ts'
import { Settings } from '../settings.ts'
import { crmApplication } from './crm-application.ts'
import { CrmOrders } from './crm-orders.ts'
import { mesEventsToShopDatabase } from './mes-events-to-shop-database.ts'
import { orderSender } from './order-sender.ts'
import { SubmittedOrdersPoll } from './submitted-orders-poll.ts'

const log = logAs('crm')
const now = () => new Date()

await runService(log, async (abandoned) => {
  const settings = new Settings(process.env)
  const host = settings.text('HOST', '127.0.0.1')
  const port = settings.port('PORT')
  const databaseUrl = settings.databaseUrl('SHOP_DATABASE_URL')
  const brokerUrl = settings.brokerUrl('BROKER_URL')
  const pollMs = settings.integer('CRM_POLL_MS', 250, { min: 1, max: 3_600_000 })
  settings.check()

  const pool = openDatabase(databaseUrl, 'crm', log)
  const broker = await connectBroker(brokerUrl, { log }, abandoned)
  const send = orderSender(broker)
  const poll = new SubmittedOrdersPoll({ pool, send, pollMs, now, log })
  const app = crmApplication({ pool, orders: new CrmOrders(pool, send), now, log })
  const server = await listen(app, host, port)
  broker.consume('crm.events', 10, forgiving(mesEventsToShopDatabase(pool, log), log))
  poll.start()
  return {
    port: server.port,
    stop: async () => {
      await Promise.all([server.stop(), poll.stop()])
      await broker.close()
      await pool.end()
    },
  }
})
