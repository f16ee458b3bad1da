import { StranglerError } from '../../contracts/errors.ts'
import { doorbellKind, listenToDoorbell } from '../../delivery/doorbell.ts'
import { StatusApplier } from '../../delivery/status-applier.ts'
import { integer, optional, readConfig, text, url, withDefault } from '../../runtime/config.ts'
import { inOrder, type Service, service } from '../../runtime/lifecycle.ts'
import { createLog, type Log } from '../../runtime/log.ts'
import { createPool, type Pool } from '../../runtime/postgres.ts'
import { runProcess } from '../../runtime/run-process.ts'
import { shadow } from '../shadow/shadow.ts'
import { shopStatusTarget } from './shop-status-target.ts'
import { statusesQueue } from './statuses-doorbell.ts'

/**
 * The processes of the statuses' direct way, by role:
 *   applier   status inbox -> Shop DB
 *   shadow    compares what goes through CRM with what we would do
 */
const role = process.argv[2]
const log = createLog(role ?? 'statuses')

const databases = {
  LEDGER_URL: url('postgres', 'postgresql'),
  SHOP_URL: url('postgres', 'postgresql'),
}
const closing = (pool: Pool): Service =>
  service({ start: () => Promise.resolve(), stop: () => pool.end() })

await runProcess(log, () => {
  switch (role) {
    case 'applier':
      return applier(log)
    case 'shadow':
      return shadowing(log)
    default:
      throw new StranglerError(
        'invalid_argument',
        `expected a role: applier or shadow, got ${role ?? 'nothing'}`,
      )
  }
})

function applier(applierLog: Log): Service {
  const config = readConfig({
    ...databases,
    QUEUE_URL: optional(url('redis', 'rediss', 'postgres', 'postgresql')),
    QUEUE_PREFIX: optional(text()),
    QUIET_MS: withDefault(integer({ min: 0, max: 3_600_000 }), 2000),
    // Of an applier that is frozen in the middle of a batch the Shop's rows come free soon: sellers wait for them. The ledger's
    // locks may outlast a slow Shop, or a batch of which each order has to be tried alone.
    HOLD_SHOP_MS: withDefault(integer({ min: 100, max: 3_600_000 }), 5000),
    HOLD_LEDGER_MS: withDefault(integer({ min: 100, max: 3_600_000 }), 60_000),
  })
  const name = 'strangler-applier'
  const { HOLD_LEDGER_MS: holdLedgerMs, HOLD_SHOP_MS: holdShopMs } = config
  const ledger = createPool(config.LEDGER_URL, {
    name,
    log: applierLog,
    idleInTransactionMs: holdLedgerMs,
  })
  const shop = createPool(config.SHOP_URL, {
    name,
    log: applierLog,
    idleInTransactionMs: holdShopMs,
  })
  const { QUEUE_URL: queueUrl, QUEUE_PREFIX: prefix } = config
  applierLog.info('applier_starting', {
    queue: queueUrl === undefined ? 'none: the inbox is polled' : doorbellKind(queueUrl),
  })
  const applying = new StatusApplier({
    ledger,
    target: shopStatusTarget(shop),
    listen:
      queueUrl === undefined
        ? undefined
        : (onRings) =>
            listenToDoorbell(
              {
                url: queueUrl,
                queue: statusesQueue,
                log: applierLog,
                ...(prefix === undefined ? {} : { prefix }),
              },
              onRings,
            ),
    log: applierLog,
    quietMs: config.QUIET_MS,
  })
  return inOrder([closing(ledger), closing(shop), applying])
}

function shadowing(shadowLog: Log): Service {
  const config = readConfig({
    ...databases,
    SHADOW_GRACE_MS: withDefault(integer({ min: 0, max: 86_400_000 }), 60_000),
  })
  const name = 'strangler-shadow'
  const ledger = createPool(config.LEDGER_URL, { name, log: shadowLog })
  const shop = createPool(config.SHOP_URL, { name, max: 1, log: shadowLog })
  const looking = shadow({ ledger, shop, graceMs: config.SHADOW_GRACE_MS, log: shadowLog })
  return inOrder([closing(ledger), closing(shop), looking])
}
