import { StranglerError } from '../../contracts/errors.ts'
import { ringCounter } from '../../delivery/doorbell-metrics.ts'
import { relayBell } from '../../delivery/relay-bell.ts'
import { epochLease } from '../../flags/replicas.ts'
import { integer, optional, readConfig, text, url, withDefault } from '../../runtime/config.ts'
import { inOrder, type Service, service } from '../../runtime/lifecycle.ts'
import { createLog, type Log } from '../../runtime/log.ts'
import { openMetrics } from '../../runtime/open-metrics.ts'
import { closing, createPool, frozenAfterMs } from '../../runtime/postgres.ts'
import { runProcess } from '../../runtime/run-process.ts'
import { tracingMetrics } from '../../runtime/tracing-metrics.ts'
import { openTracing } from '../../runtime/tracing.ts'
import { openBroker } from '../broker/open-broker.ts'
import { intakeFeed } from './intake-feed.ts'
import { intakeRelayMetrics } from './intake-relay-metrics.ts'
import { intakeRelay } from './intake-relay.ts'
import { usualPacePerMinute } from './pace.ts'
import { standardRetries, webhookSender } from './webhooks.ts'

/**
 * The processes between the partner intake and the rest, by role:
 *   relay   intake outbox -> CRM is told, then -> ledger, then rings
 *   feed    what passed the bridges about orders of partners -> the intake's database
 *   webhooks   what changed in the intake's database -> partners that have asked for it
 */
const role = process.argv[2]
const log = createLog(`partner-${role ?? 'orders'}`)

const databases = {
  LEDGER_URL: url('postgres', 'postgresql'),
  INTAKE_URL: url('postgres', 'postgresql'),
}

await runProcess(log, () => {
  switch (role) {
    case 'relay':
      return relay(log)
    case 'feed':
      return feed(log)
    case 'webhooks':
      return webhooks(log)
    default:
      throw new StranglerError(
        'invalid_argument',
        `expected a role: relay, feed or webhooks, got ${role ?? 'nothing'}`,
      )
  }
})

async function relay(relayLog: Log): Promise<Service> {
  const config = readConfig({
    ...databases,
    QUEUE_URL: optional(url('redis', 'rediss', 'postgres', 'postgresql')),
    QUEUE_PREFIX: optional(text()),
    BROKER_URL: url('amqp', 'amqps', 'postgres', 'postgresql'),
    AMQP_MANAGEMENT_URL: optional(url('http', 'https')),
    PARTNER_ORDERS_PER_MINUTE: withDefault(integer({ min: 1, max: 1_000_000 }), usualPacePerMinute),
  })
  const name = 'strangler-partner-relay'
  const ledger = createPool(config.LEDGER_URL, { name, log: relayLog })
  const intake = createPool(config.INTAKE_URL, {
    name,
    max: 2,
    idleInTransactionMs: frozenAfterMs,
    log: relayLog,
  })
  const broker = openBroker(config.BROKER_URL, {
    managementUrl: config.AMQP_MANAGEMENT_URL,
    log: relayLog,
  })
  const { metrics, listener } = await openMetrics(relayLog)
  const tracing = await openTracing(name, relayLog)
  tracingMetrics(metrics, tracing)
  const rings = ringCounter(metrics)
  const { QUEUE_URL: queueUrl, QUEUE_PREFIX: prefix } = config
  const bell = relayBell(
    queueUrl === undefined
      ? undefined
      : {
          url: queueUrl,
          queue: 'orders',
          log: relayLog,
          ...(prefix !== undefined && { prefix }),
          onRung: (outcome, orders) => rings.add({ queue: 'orders', outcome }, orders),
        },
    tracing.on,
    relayLog,
  )
  const lease = epochLease({ ledger, kind: 'partner-relay', log: relayLog })
  const brokerService = service({ start: () => Promise.resolve(), stop: () => broker.close() })
  const relaying = intakeRelay({
    intake,
    ledger,
    broker,
    senderName: `partner-relay.${process.pid}.${Date.now()}`,
    log: relayLog,
    mayTake: () => lease.holds(),
    ordersPerMinute: config.PARTNER_ORDERS_PER_MINUTE,
    tracing,
    onRelayed: intakeRelayMetrics(metrics, intake),
    ring: (orders) => bell.ring(orders),
  })
  return inOrder([
    tracing,
    closing(ledger),
    closing(intake),
    brokerService,
    lease,
    bell,
    relaying,
    listener,
  ])
}

async function feed(feedLog: Log): Promise<Service> {
  const config = readConfig({
    ...databases,
    MES_URL: url('postgres', 'postgresql'),
    // Longer than the intake waits for an answer of the MES, and the MES for the end of a request.
    FORWARD_SETTLE_MS: withDefault(integer({ min: 1000, max: 86_400_000 }), 180_000),
  })
  const name = 'strangler-partner-feed'
  // Its transactions wait for one of the intake.
  const ledger = createPool(config.LEDGER_URL, {
    name,
    idleInTransactionMs: 20_000,
    log: feedLog,
  })
  const intake = createPool(config.INTAKE_URL, {
    name,
    idleInTransactionMs: frozenAfterMs,
    log: feedLog,
  })
  const mes = createPool(config.MES_URL, { name, max: 1, log: feedLog })
  const { metrics, listener } = await openMetrics(feedLog)
  const applied = metrics.counter({
    name: 'strangler_intake_feed_events_total',
    help: 'Statuses, prices and orders born in the MES that were brought to the intake.',
    labels: {},
  })
  const feeding = intakeFeed({
    ledger,
    intake,
    mes,
    settleMs: config.FORWARD_SETTLE_MS,
    onApplied: (events) => applied.add({}, events),
    log: feedLog,
  })
  return inOrder([closing(ledger), closing(intake), closing(mes), feeding, listener])
}

async function webhooks(webhooksLog: Log): Promise<Service> {
  const config = readConfig({
    INTAKE_URL: url('postgres', 'postgresql'),
    WEBHOOK_ANSWER_MS: withDefault(integer({ min: 100, max: 30_000 }), 15_000),
  })
  const intake = createPool(config.INTAKE_URL, {
    name: 'strangler-partner-webhooks',
    log: webhooksLog,
  })
  const { metrics, listener } = await openMetrics(webhooksLog)
  const sent = metrics.counter({
    name: 'strangler_webhooks_total',
    help: 'Messages to partners by what became of them.',
    labels: { outcome: ['delivered', 'failed', 'dead'] },
  })
  const sending = webhookSender({
    intake,
    answerWithinMs: config.WEBHOOK_ANSWER_MS,
    retryAfterMs: standardRetries,
    onSent: (outcome) => sent.add({ outcome }),
    log: webhooksLog,
  })
  return inOrder([closing(intake), sending, listener])
}
