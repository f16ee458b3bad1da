import { createServer } from 'node:http'

import { requireMigrations } from '../runtime/apply-migrations.ts'
import { integer, origin, port, readConfig, text, url, withDefault } from '../runtime/config.ts'
import { httpListener } from '../runtime/http-listener.ts'
import { inOrder, service } from '../runtime/lifecycle.ts'
import { createLog } from '../runtime/log.ts'
import { openMetrics } from '../runtime/open-metrics.ts'
import { createPool, frozenAfterMs } from '../runtime/postgres.ts'
import { runProcess } from '../runtime/run-process.ts'
import { AcceptOrders } from './accept-orders.ts'
import { intakeApplication } from './intake-application.ts'
import { intakeMetrics } from './intake-metrics.ts'
import { ModelStore } from './model-store.ts'
import { Partners } from './partners.ts'
import { Quotas } from './quotas.ts'

/** The partners' door: takes orders and answers for them, in the words of the MES. It waits for no queue. */
const log = createLog('partner-intake')

await runProcess(log, async () => {
  const config = readConfig({
    INTAKE_URL: url('postgres', 'postgresql'),
    MES_UPSTREAM: origin,
    MODEL_DIR: text(),
    LISTEN_HOST: withDefault(text(), '127.0.0.1'),
    PORT: withDefault(port, 0),
    // Begins the names of its uploads under way: each instance on one store has its own.
    INTAKE_NAME: withDefault(text(), 'intake'),
    MES_ANSWER_MS: withDefault(integer({ min: 100, max: 3_600_000 }), 60_000),
    MOVING_WAIT_MS: withDefault(integer({ min: 0, max: 600_000 }), 20_000),
    BODY_IDLE_MS: withDefault(integer({ min: 100, max: 600_000 }), 60_000),
  })
  const pool = createPool(config.INTAKE_URL, {
    name: 'strangler-intake',
    max: 8,
    answerWithinMs: 10_000,
    idleInTransactionMs: frozenAfterMs,
    keepIdle: true,
    log,
  })
  const store = new ModelStore(config.MODEL_DIR, config.INTAKE_NAME)
  const partners = new Partners(pool, log)
  const { metrics, listener: metricsListener } = await openMetrics(log)
  const application = intakeApplication({
    pool,
    store,
    partners,
    quotas: new Quotas(),
    accepting: new AcceptOrders(pool),
    mes: { origin: config.MES_UPSTREAM, answerWithinMs: config.MES_ANSWER_MS },
    movingWaitMs: config.MOVING_WAIT_MS,
    bodyIdleMs: config.BODY_IDLE_MS,
    onAnswered: intakeMetrics(metrics),
    log,
  })
  // A model may take its time; a client that has stopped sending may not, see readBody.
  // Without a word of its own, `requestTimeout: 0` lifts the limit of the head as well.
  const server = createServer(
    {
      requestTimeout: 0,
      headersTimeout: config.BODY_IDLE_MS,
      connectionsCheckingInterval: Math.min(30_000, config.BODY_IDLE_MS),
    },
    application,
  )
  const listener = httpListener(server, { host: config.LISTEN_HOST, port: config.PORT })
  const connections = service({
    async start() {
      await requireMigrations(config.INTAKE_URL, 'intake')
      await store.start()
    },
    async stop() {
      await store.stop()
      await pool.end()
    },
  })
  return {
    ...inOrder([connections, partners, listener, metricsListener]),
    port: () => listener.port(),
  }
})
