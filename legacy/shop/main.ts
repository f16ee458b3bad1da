import { openDatabase } from '../database.ts'
import { listen } from '../http-server.ts'
import { logAs } from '../log.ts'
import { ModelStore } from '../model-store.ts'
import { runService } from '../run-service.ts'
import { Settings } from '../settings.ts'
import { Orders } from './orders.ts'
import { shopApplication } from './shop-application.ts'

const log = logAs('shop')

await runService(log, async () => {
  const settings = new Settings(process.env)
  const host = settings.text('HOST', '127.0.0.1')
  const port = settings.port('PORT')
  const databaseUrl = settings.databaseUrl('SHOP_DATABASE_URL')
  const modelFolder = settings.text('MODEL_DIR')
  const longest = settings.integer('SHOP_MODEL_MAX_BYTES', 100 * 2 ** 20, {
    min: 1,
    max: Number.MAX_SAFE_INTEGER,
  })
  settings.check()

  const pool = openDatabase(databaseUrl, 'shop', log)
  const store = new ModelStore(modelFolder, 'shop')
  await store.start()
  const orders = new Orders(pool)
  const app = shopApplication({ pool, orders, store, longest, now: () => new Date(), log })
  const server = await listen(app, host, port)
  return {
    port: server.port,
    stop: async () => {
      await server.stop()
      await pool.end()
    },
  }
})
