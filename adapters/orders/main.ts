import { StranglerError } from '../../contracts/errors.ts'
import { courierSupervisor } from '../../delivery/courier-supervisor.ts'
import { Courier } from '../../delivery/courier.ts'
import { Doorbell, doorbellKind, listenToDoorbell } from '../../delivery/doorbell.ts'
import { InDoubtLadder } from '../../delivery/in-doubt-ladder.ts'
import { LedgerClaims } from '../../delivery/ledger-claims.ts'
import { takeLifeLock } from '../../delivery/life-lock.ts'
import { watch } from '../../delivery/watch.ts'
import { integer, optional, readConfig, text, url, withDefault } from '../../runtime/config.ts'
import { inOrder, type Service, service } from '../../runtime/lifecycle.ts'
import { createLog, type Log } from '../../runtime/log.ts'
import { createPool, type Pool } from '../../runtime/postgres.ts'
import { runProcess } from '../../runtime/run-process.ts'
import { openBroker } from '../broker/open-broker.ts'
import { forwardExchange, ordersToMes } from '../wire/legacy-topology.ts'
import { mesQueueEvidence, mesQueueSink } from './mes-queue-sink.ts'
import { shopRelay } from './relay.ts'

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
const doorbellQueue = 'orders'
const closing = (pool: Pool): Service =>
  service({ start: () => Promise.resolve(), stop: () => pool.end() })

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

function relay(relayLog: Log): Service {
  const config = readConfig({
    ...ledgerUrl,
    ...doorbellUrl,
    SHOP_URL: url('postgres', 'postgresql'),
  })
  const ledger = createPool(config.LEDGER_URL, { name: 'strangler-relay', log: relayLog })
  const shop = createPool(config.SHOP_URL, { name: 'strangler-relay', max: 2, log: relayLog })
  const doorbell =
    config.QUEUE_URL === undefined ? undefined : new Doorbell(doorbellOptions(config, relayLog))
  let ringing = Promise.resolve()
  const bell = service({
    start: () => Promise.resolve(),
    async stop() {
      await ringing
      await doorbell?.close()
    },
  })
  return inOrder([
    closing(ledger),
    closing(shop),
    bell,
    shopRelay({
      shop,
      ledger,
      log: relayLog,
      ring: (orders) => {
        if (doorbell === undefined) return
        ringing = ringing
          .then(() => doorbell.ring(orders))
          .catch((error: unknown) =>
            relayLog.warn('ring_failed', { orders: orders.length, reason: String(error) }),
          )
      },
    }),
  ])
}

function supervisor(supervisorLog: Log): Service {
  const config = readConfig({
    ...killPeriod,
    COURIER_CHILDREN: withDefault(integer({ min: 1, max: 64 }), 1),
  })
  return courierSupervisor({
    file: import.meta.filename,
    args: ['courier-child'],
    children: config.COURIER_CHILDREN,
    killPeriodMs: config.KILL_PERIOD_MS,
    log: supervisorLog,
  })
}

async function courier(courierLog: Log): Promise<Service> {
  const config = readConfig({
    ...ledgerUrl,
    ...doorbellUrl,
    ...brokerUrl,
    ...killPeriod,
    QUIET_MS: withDefault(integer({ min: 0, max: 3_600_000 }), 5000),
    PROBE_MS: withDefault(integer({ min: 50, max: 600_000 }), 5000),
    MAX_IN_HAND: withDefault(integer({ min: 1, max: 10_000 }), 1000),
    DOORBELL_LOCK_MS: withDefault(integer({ min: 100, max: 600_000 }), 30_000),
    DOORBELL_STALLED_MS: withDefault(integer({ min: 100, max: 600_000 }), 5000),
  })
  const ledger = createPool(config.LEDGER_URL, { name: 'strangler-courier', log: courierLog })
  const broker = openBroker(config.BROKER_URL, {
    managementUrl: config.AMQP_MANAGEMENT_URL,
    log: courierLog,
  })
  const exchange = forwardExchange(ordersToMes.queue)
  const life = await takeLifeLock(config.LEDGER_URL, (reason) => {
    courierLog.error('life_lock_lost', { reason })
    // At once, without draining: somebody may already hold our death certificate.
    process.kill(process.pid, 'SIGKILL')
  })
  const beat = setInterval(() => process.send?.({ type: 'beat' }), config.KILL_PERIOD_MS / 6)
  const queueUrl = config.QUEUE_URL
  const carrier = new Courier({
    ownerId: life.ownerId,
    claims: new LedgerClaims(ledger, life.ownerId),
    sink: mesQueueSink(broker, { exchange, queue: ordersToMes.queue }),
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
  })
  courierLog.info('courier_starting', {
    ownerId: life.ownerId,
    queue: queueUrl === undefined ? 'none: the ledger is polled' : doorbellKind(queueUrl),
    broker: broker.kind,
  })
  const lifeService = service({
    start: () => Promise.resolve(),
    async stop() {
      clearInterval(beat)
      await life.release()
    },
  })
  const brokerService = service({ start: () => Promise.resolve(), stop: () => broker.close() })
  return inOrder([lifeService, closing(ledger), brokerService, carrier])
}

function watcher(watchLog: Log): Service {
  const config = readConfig({
    ...ledgerUrl,
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
  const ledger = createPool(config.LEDGER_URL, { name: 'strangler-watch', log: watchLog })
  const mes = createPool(config.MES_URL, { name: 'strangler-watch', max: 2, log: watchLog })
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
  return inOrder([
    closing(ledger),
    closing(mes),
    brokerService,
    watch({ ledger, ladder, killPeriodMs: config.KILL_PERIOD_MS, log: watchLog }),
  ])
}

function doorbellOptions(
  config: { readonly QUEUE_URL: string | undefined; readonly QUEUE_PREFIX: string | undefined },
  forLog: Log,
): { url: string; queue: string; prefix?: string; log: Log } {
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
