import { StranglerError } from '../../contracts/errors.ts'
import { courierMetrics } from '../../delivery/courier-metrics.ts'
import { courierSupervisor } from '../../delivery/courier-supervisor.ts'
import { CourierTally } from '../../delivery/courier-tally.ts'
import { Courier } from '../../delivery/courier.ts'
import { ringCounter } from '../../delivery/doorbell-metrics.ts'
import { doorbellKind, type DoorbellOptions, listenToDoorbell } from '../../delivery/doorbell.ts'
import { InDoubtLadder } from '../../delivery/in-doubt-ladder.ts'
import { LedgerClaims } from '../../delivery/ledger-claims.ts'
import { ledgerMetrics } from '../../delivery/ledger-metrics.ts'
import { takeLifeLock } from '../../delivery/life-lock.ts'
import { relayBell } from '../../delivery/relay-bell.ts'
import { watch } from '../../delivery/watch.ts'
import { gates } from '../../flags/gates.ts'
import { phases } from '../../flags/phases.ts'
import { epochLease } from '../../flags/replicas.ts'
import { integer, optional, readConfig, text, url, withDefault } from '../../runtime/config.ts'
import { inOrder, type Service, service } from '../../runtime/lifecycle.ts'
import { createLog, type Log } from '../../runtime/log.ts'
import { openMetrics } from '../../runtime/open-metrics.ts'
import { closing, createPool, frozenAfterMs, usuallyLostAfterMs } from '../../runtime/postgres.ts'
import { runProcess } from '../../runtime/run-process.ts'
import { tracingMetrics } from '../../runtime/tracing-metrics.ts'
import { openTracing } from '../../runtime/tracing.ts'
import { openBroker } from '../broker/open-broker.ts'
import { forwardExchange, legacyLinks, ordersToMes } from '../wire/legacy-topology.ts'
import { mesQueueEvidence, mesQueueSink } from './mes-queue-sink.ts'
import { queueDepths } from './queue-depths.ts'
import { relayMetrics } from './relay-metrics.ts'
import { shopRelay } from './relay.ts'
import { watchMetrics } from './watch-metrics.ts'

/**
 * The processes of the direct way, by role:
 *   relay          Shop outbox -> ledger, then rings
 *   courier        supervisor of the courier children
 *   courier-child  ledger -> MES queue; started by the supervisor
 *   watch          takes over from dead couriers, settles doubts
 */
const role = process.argv[2]
const log = createLog(role ?? 'orders')

const ledgerUrl = { LEDGER_URL: url('postgres', 'postgresql') }
const doorbellUrl = {
  QUEUE_URL: optional(url('redis', 'rediss', 'postgres', 'postgresql')),
  QUEUE_PREFIX: optional(text()),
}
const brokerUrl = {
  BROKER_URL: url('amqp', 'amqps', 'postgres', 'postgresql'),
  AMQP_MANAGEMENT_URL: optional(url('http', 'https')),
}
const killPeriod = { KILL_PERIOD_MS: withDefault(integer({ min: 200, max: 600_000 }), 3000) }
const lost = {
  LOST_AFTER_MS: withDefault(integer({ min: 100, max: 3_600_000 }), usuallyLostAfterMs),
}
const doorbellQueue = 'orders'

await runProcess(log, () => {
  switch (role) {
    case 'relay':
      return relay(log)
    case 'courier':
      return supervisor(log)
    case 'courier-child':
      return courier(log)
    case 'watch':
      return watcher(log)
    default:
      throw new StranglerError(
        'invalid_argument',
        `expected a role: relay, courier, courier-child or watch, got ${role ?? 'nothing'}`,
      )
  }
})

async function relay(relayLog: Log): Promise<Service> {
  const config = readConfig({
    ...ledgerUrl,
    ...lost,
    ...doorbellUrl,
    SHOP_URL: url('postgres', 'postgresql'),
  })
  const lostAfterMs = config.LOST_AFTER_MS
  const ledger = createPool(config.LEDGER_URL, {
    name: 'strangler-relay',
    lostAfterMs,
    log: relayLog,
  })
  const shop = createPool(config.SHOP_URL, {
    name: 'strangler-relay',
    max: 2,
    idleInTransactionMs: frozenAfterMs,
    lostAfterMs,
    log: relayLog,
  })
  const { metrics, listener } = await openMetrics(relayLog)
  const tracing = await openTracing('strangler-relay', relayLog)
  tracingMetrics(metrics, tracing)
  const rings = ringCounter(metrics)
  const bell = relayBell(
    config.QUEUE_URL === undefined
      ? undefined
      : {
          ...doorbellOptions(config, relayLog),
          onRung: (outcome, orders) => rings.add({ queue: doorbellQueue, outcome }, orders),
        },
    tracing.on,
    relayLog,
  )
  const lease = epochLease({ ledger, kind: 'relay', log: relayLog })
  return inOrder([
    tracing,
    closing(ledger),
    closing(shop),
    lease,
    bell,
    shopRelay({
      shop,
      ledger,
      log: relayLog,
      mayTake: () => lease.holds(),
      tracing,
      onRelayed: relayMetrics(metrics),
      ring: (orders) => bell.ring(orders),
    }),
    listener,
  ])
}

async function supervisor(supervisorLog: Log): Promise<Service> {
  const config = readConfig({
    ...killPeriod,
    COURIER_CHILDREN: withDefault(integer({ min: 1, max: 64 }), 1),
  })
  const { metrics, listener } = await openMetrics(supervisorLog)
  const supervised = courierSupervisor({
    ...courierMetrics(metrics),
    file: import.meta.filename,
    args: ['courier-child'],
    children: config.COURIER_CHILDREN,
    killPeriodMs: config.KILL_PERIOD_MS,
    log: supervisorLog,
  })
  return inOrder([supervised, listener])
}

async function courier(courierLog: Log): Promise<Service> {
  const config = readConfig({
    ...ledgerUrl,
    ...lost,
    ...doorbellUrl,
    ...brokerUrl,
    ...killPeriod,
    QUIET_MS: withDefault(integer({ min: 0, max: 3_600_000 }), 5000),
    PROBE_MS: withDefault(integer({ min: 50, max: 600_000 }), 5000),
    MAX_IN_HAND: withDefault(integer({ min: 1, max: 10_000 }), 1000),
    DOORBELL_LOCK_MS: withDefault(integer({ min: 100, max: 600_000 }), 30_000),
    DOORBELL_STALLED_MS: withDefault(integer({ min: 100, max: 600_000 }), 5000),
  })
  const lostAfterMs = config.LOST_AFTER_MS
  const ledger = createPool(config.LEDGER_URL, {
    name: 'strangler-courier',
    lostAfterMs,
    log: courierLog,
  })
  const broker = openBroker(config.BROKER_URL, {
    managementUrl: config.AMQP_MANAGEMENT_URL,
    log: courierLog,
  })
  const exchange = forwardExchange(ordersToMes.queue)
  const life = await takeLifeLock(
    config.LEDGER_URL,
    (reason) => {
      courierLog.error('life_lock_lost', { reason })
      // At once, without draining: somebody may already hold our death certificate.
      process.kill(process.pid, 'SIGKILL')
    },
    lostAfterMs,
  )
  const tracing = await openTracing('strangler-courier', courierLog)
  const tally = new CourierTally()
  const tell = (): void => {
    process.send?.(tally.beat(carrier.breaker, tracing.numbers()))
  }
  const lease = epochLease({ ledger, kind: 'courier', log: courierLog })
  const queueUrl = config.QUEUE_URL
  const carrier = new Courier({
    ownerId: life.ownerId,
    claims: new LedgerClaims(ledger, life.ownerId),
    sink: mesQueueSink(broker, { exchange, queue: ordersToMes.queue, traced: tracing.on }),
    listen:
      queueUrl === undefined
        ? undefined
        : (onRings) =>
            listenToDoorbell(
              {
                ...doorbellOptions(config, courierLog),
                lockMs: config.DOORBELL_LOCK_MS,
                stalledMs: config.DOORBELL_STALLED_MS,
              },
              onRings,
            ),
    log: courierLog,
    quietMs: config.QUIET_MS,
    probeEveryMs: config.PROBE_MS,
    maxInHand: config.MAX_IN_HAND,
    mayTake: () => lease.holds(),
    tracing,
    onSent: (outcome) => tally.count(outcome),
  })
  const beat = setInterval(tell, config.KILL_PERIOD_MS / 6)
  courierLog.info('courier_starting', {
    ownerId: life.ownerId,
    queue: queueUrl === undefined ? 'none: the ledger is polled' : doorbellKind(queueUrl),
    broker: broker.kind,
  })
  const lifeService = service({
    start: () => Promise.resolve(),
    async stop() {
      clearInterval(beat)
      tell()
      await life.release()
    },
  })
  const brokerService = service({ start: () => Promise.resolve(), stop: () => broker.close() })
  return inOrder([lifeService, tracing, closing(ledger), brokerService, lease, carrier])
}

async function watcher(watchLog: Log): Promise<Service> {
  const config = readConfig({
    ...ledgerUrl,
    ...lost,
    ...brokerUrl,
    ...killPeriod,
    MES_URL: url('postgres', 'postgresql'),
    SETTLE_MS: withDefault(integer({ min: 0, max: 600_000 }), 3000),
  })
  if (config.SETTLE_MS < config.KILL_PERIOD_MS) {
    throw new StranglerError(
      'invalid_configuration',
      `SETTLE_MS expected to be at least KILL_PERIOD_MS (${config.KILL_PERIOD_MS}), got ${config.SETTLE_MS}`,
    )
  }
  const lostAfterMs = config.LOST_AFTER_MS
  const name = 'strangler-watch'
  const ledger = createPool(config.LEDGER_URL, { name, lostAfterMs, log: watchLog })
  const mes = createPool(config.MES_URL, { name, max: 2, lostAfterMs, log: watchLog })
  const broker = openBroker(config.BROKER_URL, {
    managementUrl: config.AMQP_MANAGEMENT_URL,
    log: watchLog,
  })
  const ladder = new InDoubtLadder({
    ledger,
    evidence: mesQueueEvidence({ broker, queue: ordersToMes.queue, mes, ledger }),
    settleMs: config.SETTLE_MS,
    log: watchLog,
  })
  const brokerService = service({ start: () => Promise.resolve(), stop: () => broker.close() })
  const { metrics, listener } = await openMetrics(watchLog)
  const scraped = createPool(config.LEDGER_URL, {
    name: 'strangler-metrics',
    max: 2,
    answerWithinMs: 5000,
    log: watchLog,
  })
  const queues = legacyLinks.map(({ queue }) => queue)
  ledgerMetrics(metrics, {
    ledger: scraped,
    phases: phases.map(({ id }) => id),
    gates: gates.map(({ id }) => id),
    queues,
    depths: () => queueDepths(broker, queues),
    log: watchLog,
  })
  return inOrder([
    closing(ledger),
    closing(scraped),
    closing(mes),
    brokerService,
    watch({
      ledger,
      ladder,
      killPeriodMs: config.KILL_PERIOD_MS,
      onRound: watchMetrics(metrics),
      log: watchLog,
    }),
    listener,
  ])
}

function doorbellOptions(
  config: { readonly QUEUE_URL: string | undefined; readonly QUEUE_PREFIX: string | undefined },
  forLog: Log,
): DoorbellOptions {
  const { QUEUE_URL: queueUrl, QUEUE_PREFIX: prefix } = config
  if (queueUrl === undefined)
    throw new StranglerError('invalid_configuration', 'QUEUE_URL is not set')
  return {
    url: queueUrl,
    queue: doorbellQueue,
    log: forLog,
    ...(prefix === undefined ? {} : { prefix }),
  }
}
