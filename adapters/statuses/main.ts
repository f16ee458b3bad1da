import { StranglerError } from '../../contracts/errors.ts'
import { doorbellKind, listenToDoorbell } from '../../delivery/doorbell.ts'
import { StatusApplier } from '../../delivery/status-applier.ts'
import { epochLease } from '../../flags/replicas.ts'
import { integer, optional, readConfig, text, url, withDefault } from '../../runtime/config.ts'
import { inOrder, type Service } from '../../runtime/lifecycle.ts'
import { createLog, type Log } from '../../runtime/log.ts'
import { openMetrics } from '../../runtime/open-metrics.ts'
import { closing, createPool, frozenAfterMs } from '../../runtime/postgres.ts'
import { runProcess } from '../../runtime/run-process.ts'
import { tracingMetrics } from '../../runtime/tracing-metrics.ts'
import { openTracing } from '../../runtime/tracing.ts'
import { shadow } from '../shadow/shadow.ts'
import { shopStatusTarget } from './shop-status-target.ts'
import { statusesQueue } from './statuses-doorbell.ts'
import { applierMetrics, shadowMetrics } from './statuses-metrics.ts'

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

async function applier(applierLog: Log): Promise<Service> {
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
  const lease = epochLease({ ledger, kind: 'applier', log: applierLog })
  const { metrics, listener } = await openMetrics(applierLog)
  const tracing = await openTracing('strangler-applier', applierLog)
  tracingMetrics(metrics, tracing)
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
    mayTake: () => lease.holds(),
    tracing,
    onVerdict: applierMetrics(metrics),
  })
  return inOrder([tracing, closing(ledger), closing(shop), lease, applying, listener])
}

async function shadowing(shadowLog: Log): Promise<Service> {
  const config = readConfig({
    ...databases,
    INTAKE_URL: optional(url('postgres', 'postgresql')),
    SHADOW_GRACE_MS: withDefault(integer({ min: 0, max: 86_400_000 }), 60_000),
  })
  const name = 'strangler-shadow'
  const ledger = createPool(config.LEDGER_URL, {
    name,
    idleInTransactionMs: frozenAfterMs,
    log: shadowLog,
  })
  const shop = createPool(config.SHOP_URL, { name, max: 1, log: shadowLog })
  const intake =
    config.INTAKE_URL === undefined
      ? undefined
      : createPool(config.INTAKE_URL, { name, max: 1, log: shadowLog })
  const { metrics, listener } = await openMetrics(shadowLog)
  const looking = shadow({
    ledger,
    shop,
    intake,
    graceMs: config.SHADOW_GRACE_MS,
    onCompared: shadowMetrics(metrics),
    log: shadowLog,
  })
  const pools = [ledger, shop, ...(intake === undefined ? [] : [intake])]
  return inOrder([...pools.map(closing), looking, listener])
}
