import { createServer } from 'node:http'

import { StranglerError } from '../contracts/errors.ts'
import { queueBoards } from '../delivery/queue-boards.ts'
import { unleashAdmin } from '../flags/unleash/unleash-admin.ts'
import type { UnleashAdmin } from '../flags/unleash/unleash-admin.ts'
import { requireMigrations } from '../runtime/apply-migrations.ts'
import { integer, optional, port, readConfig, text, url, withDefault } from '../runtime/config.ts'
import { httpListener } from '../runtime/http-listener.ts'
import { inOrder, service } from '../runtime/lifecycle.ts'
import { createLog } from '../runtime/log.ts'
import { openMetrics } from '../runtime/open-metrics.ts'
import { createPool, isConnectionError } from '../runtime/postgres.ts'
import { runProcess } from '../runtime/run-process.ts'
import { consoleApplication } from './application.ts'
import { headerLoginOf } from './header-login.ts'
import { liveFeed } from './live-feed.ts'
import { phaseActs } from './phase-acts.ts'
import { trustedPeers } from './trusted-peers.ts'

const log = createLog('console')

await runProcess(log, async () => {
  const config = readConfig({
    LEDGER_URL: url('postgres', 'postgresql'),
    SHOP_URL: url('postgres', 'postgresql'),
    INTAKE_URL: optional(url('postgres', 'postgresql')),
    QUEUE_URL: optional(url('redis', 'rediss', 'postgres', 'postgresql')),
    QUEUE_PREFIX: optional(text()),
    LISTEN_HOST: withDefault(text(), '127.0.0.1'),
    CONSOLE_PORT: withDefault(port, 0),
    // Given by whoever restarts a process on the port that it had.
    PORT: optional(port),
    CONSOLE_STATEMENT_MS: withDefault(integer({ min: 100, max: 600_000 }), 15_000),
    CONSOLE_PUBLIC_URL: optional(url('http', 'https')),
    CONSOLE_TRUST_HEADER: optional(text()),
    CONSOLE_HEADER_OPERATORS: optional(text()),
    CONSOLE_TRUSTED_PROXIES: trustedPeers,
    UNLEASH_URL: optional(url('http', 'https')),
    UNLEASH_ADMIN_TOKEN: optional(text()),
    UNLEASH_ENVIRONMENT: optional(text()),
  })
  const name = 'strangler-console'
  const answerWithinMs = config.CONSOLE_STATEMENT_MS
  const ledger = createPool(config.LEDGER_URL, { name, max: 8, log, answerWithinMs })
  const shop = createPool(config.SHOP_URL, { name, max: 2, log, answerWithinMs })
  const intake =
    config.INTAKE_URL === undefined
      ? undefined
      : createPool(config.INTAKE_URL, { name, max: 2, log, answerWithinMs })
  const databases = { ledger, shop, intake }
  const { QUEUE_URL: queueUrl, QUEUE_PREFIX: prefix } = config
  const boards =
    queueUrl === undefined
      ? undefined
      : queueBoards({ url: queueUrl, prefix, path: '/queues', log })
  const feed = liveFeed({ log })
  const application = consoleApplication({
    databases,
    acts: phaseActs(databases, unleashOf(config), log),
    feed,
    boards,
    headerLogin: headerLoginOf(config),
    proxies: config.CONSOLE_TRUSTED_PROXIES,
    secure: config.CONSOLE_PUBLIC_URL?.startsWith('https:') === true,
    log,
  })
  const listener = httpListener(createServer(application), {
    host: config.LISTEN_HOST,
    port: config.PORT ?? config.CONSOLE_PORT,
  })
  const connections = service({
    async start() {
      try {
        await requireMigrations(config.LEDGER_URL, 'strangler')
      } catch (error) {
        // The page is there to say that the ledger is away.
        if (!isConnectionError(error) || isRefusedLogin(error)) throw error
        log.warn('ledger_away_at_start')
      }
    },
    async stop() {
      await boards?.close()
      await Promise.all([ledger.end(), shop.end(), intake?.end()])
    },
  })
  const { listener: metrics } = await openMetrics(log)
  return { ...inOrder([connections, listener, feed, metrics]), port: () => listener.port() }
})

/** Undefined without Unleash: then a wish is stored for the reconciler. */
function unleashOf(config: {
  readonly UNLEASH_URL: string | undefined
  readonly UNLEASH_ADMIN_TOKEN: string | undefined
  readonly UNLEASH_ENVIRONMENT: string | undefined
}): UnleashAdmin | undefined {
  const { UNLEASH_URL: api, UNLEASH_ADMIN_TOKEN: token, UNLEASH_ENVIRONMENT: environment } = config
  if (api === undefined) return undefined
  if (token === undefined)
    throw new StranglerError(
      'invalid_configuration',
      'UNLEASH_ADMIN_TOKEN is needed with UNLEASH_URL',
    )
  return unleashAdmin({ url: api, token, environment })
}

/** A server that is there and knows another password will not change its mind. */
function isRefusedLogin(error: unknown): boolean {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('28')
}
