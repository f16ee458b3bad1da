import test from 'ava'

import type { BridgeStatus } from '../../adapters/bridge/bridge-status.ts'
import { missingForOrders } from '../../adapters/gates/orders-running.ts'
import type { Running } from '../../adapters/gates/orders-running.ts'
import { inspectRedis, judgeRedis } from '../../delivery/redis-settings.ts'
import { startEmbeddedPostgres } from '../../estate/embedded-postgres.ts'
import { startPrivateRabbitmq } from '../../estate/private-rabbitmq.ts'
import { startPrivateRedis } from '../../estate/private-redis.ts'
import { applyMigrations } from '../../runtime/apply-migrations.ts'
import type { Finding } from '../../runtime/finding.ts'
import { createLog } from '../../runtime/log.ts'
import { createPool } from '../../runtime/postgres.ts'
import { serialWith } from '../../test/optional-server.ts'
import { judgeBridge } from './broker-settings.ts'
import { judgeLedger } from './ledger-invariants.ts'
import { judgeMesAdapter } from './mes-adapter.ts'
import { inspectPostgres, judgePostgres } from './postgres-settings.ts'
import { inspectRabbit, judgeQueue } from './rabbitmq-settings.ts'
import { judgeRunning } from './running.ts'

function unsafe(findings: readonly Finding[]): string[] {
  return findings.filter((each) => each.level === 'unsafe').map((each) => each.subject)
}

const postgres = {
  synchronous_commit: 'on',
  fsync: 'on',
  full_page_writes: 'on',
  version: 180_004,
  superuser: false,
  role: 'strangler_login',
  standbys: 0,
  synchronous_standby_names: '',
  unsynchronized_roles: [] as string[],
}

function judge(change: Partial<typeof postgres>, missing: string[] = []): Finding[] {
  return judgePostgres('ledger', { ...postgres, ...change }, missing, 'strangler', true)
}

test('PostgreSQL: each setting broken in turn is named, and only it', (t) => {
  t.deepEqual(unsafe(judge({})), [])
  t.deepEqual(unsafe(judge({ synchronous_commit: 'off' })), ['ledger synchronous_commit'])
  t.deepEqual(unsafe(judge({ unsynchronized_roles: ['courier_login'] })), [
    'ledger synchronous_commit of courier_login',
  ])
  t.deepEqual(unsafe(judge({ fsync: 'off' })), ['ledger fsync'])
  t.deepEqual(unsafe(judge({ full_page_writes: 'off' })), ['ledger full_page_writes'])
  t.deepEqual(unsafe(judge({ version: 130_009 })), ['ledger version'])
  t.deepEqual(unsafe(judge({}, ['002_x.sql'])), ['ledger migrations'])
  const warned = (change: Partial<typeof postgres>) =>
    judge(change)
      .filter((each) => each.level === 'warn')
      .map((each) => each.subject)
  t.deepEqual(warned({ superuser: true }), ['ledger role'])
  t.deepEqual(warned({ standbys: 1 }), ['ledger standby'])
  t.deepEqual(warned({ standbys: 1, synchronous_standby_names: 'ANY 1 (*)' }), [])
})

test('an order whose owner changed without a certificate is unsafe, and named', (t) => {
  t.deepEqual(unsafe(judgeLedger([])), [])
  const [found] = judgeLedger([{ invariant: 'nothing is taken over', orderIds: ['a', 'b'] }])
  t.like(found, { level: 'unsafe', subject: 'owners of orders' })
  t.regex(found!.says, /nothing is taken over.* 2 orders: a b/)
})

test('what can still double an order depends on the MES guard', (t) => {
  const good = { installed: true, enabled: true, droppedRedeliveries: 2, droppedSecondSends: 0 }
  const level = (change: Partial<typeof good>) => judgeMesAdapter({ ...good, ...change }).level
  t.is(level({}), 'ok')
  t.regex(judgeMesAdapter(good).says, /takes each order once; it has dropped 2 redeliveries/)
  t.is(level({ enabled: false }), 'unsafe')
  t.is(level({ installed: false, enabled: false }), 'warn')
  t.is(level({ droppedSecondSends: 1 }), 'warn')
  t.regex(judgeMesAdapter(undefined).says, /was not read/)
})

test.serial('a login of ours whose commits somebody has made asynchronous is named', async (t) => {
  const server = await startEmbeddedPostgres()
  t.teardown(() => server.stop())
  const url = await server.createDatabase('ledger')
  await applyMigrations(url, 'strangler')
  const pool = createPool(url, { name: 'test', log: createLog('test') })
  t.teardown(() => pool.end())
  const found = async () => unsafe(await inspectPostgres('ledger', pool, url, 'strangler', true))
  await pool.query('CREATE ROLE ann LOGIN IN ROLE strangler_relay')
  await pool.query('CREATE ROLE stranger LOGIN')
  await pool.query('ALTER ROLE stranger SET synchronous_commit = off')
  t.deepEqual(await found(), [])
  await pool.query('ALTER ROLE ann SET synchronous_commit = off')
  t.deepEqual(await found(), ['ledger synchronous_commit of ann'])
  await pool.query('ALTER ROLE ann RESET synchronous_commit')
  await pool.query('ALTER ROLE ann IN DATABASE ledger SET synchronous_commit = false')
  t.deepEqual(await found(), ['ledger synchronous_commit of ann'])
})

test('Redis: each setting broken in turn is named, and only it', (t) => {
  const good = {
    maxmemory_policy: 'noeviction',
    appendonly: 'yes',
    appendfsync: 'everysec',
    redis_version: '7.0.15',
    role: 'master',
    rdb_last_bgsave_status: 'ok',
    aof_last_write_status: 'ok',
    aof_last_bgrewrite_status: 'ok',
  }
  t.deepEqual(unsafe(judgeRedis(good)), [])
  for (const [name, value, subject] of [
    ['maxmemory_policy', 'allkeys-lru', 'Redis maxmemory-policy'],
    ['appendonly', 'no', 'Redis appendonly'],
    ['redis_version', '6.0.16', 'Redis version'],
    ['role', 'slave', 'Redis role'],
    ['rdb_last_bgsave_status', 'err', 'Redis rdb_last_bgsave_status'],
    ['aof_last_write_status', 'err', 'Redis aof_last_write_status'],
  ] as const) {
    t.deepEqual(unsafe(judgeRedis({ ...good, [name]: value })), [subject])
  }
  const lax = judgeRedis({ ...good, appendfsync: 'no' })
  t.deepEqual(
    lax.filter(({ level }) => level !== 'ok').map(({ level, subject }) => [level, subject]),
    [['warn', 'Redis appendfsync']],
  )
})

test('RabbitMQ: what a queue can do to a message by itself is unsafe', (t) => {
  const good = { durable: true, type: 'classic', consumers: 1, arguments: {} }
  const found = (change: object) => unsafe(judgeQueue('mes.orders', { ...good, ...change }))
  t.deepEqual(found({}), [])
  t.deepEqual(found({ durable: false }), ['queue mes.orders'])
  t.deepEqual(found({ type: 'quorum' }), ['queue mes.orders delivery-limit'])
  t.deepEqual(found({ type: 'quorum', arguments: { 'x-dead-letter-exchange': 'dlx' } }), [])
  t.deepEqual(found({ type: 'quorum', effective_policy_definition: { 'delivery-limit': -1 } }), [])
  t.deepEqual(found({ arguments: { 'x-message-ttl': 1000 } }), ['queue mes.orders message-ttl'])
  t.deepEqual(found({ effective_policy_definition: { 'max-length': 10 } }), [
    'queue mes.orders max-length',
  ])
  t.deepEqual(found({ arguments: { 'x-max-length': 10, 'x-overflow': 'reject-publish' } }), [])
  t.deepEqual(
    unsafe(judgeQueue('strangler.bridge.mes.orders', { ...good, consumers: 2 })).length,
    1,
  )
})

test('a bridge with other bindings, or with nobody at it, is unsafe', (t) => {
  const good: BridgeStatus = {
    queue: 'mes.orders',
    state: 'inserted',
    topologyChanges: 1,
    consumer: true,
    depth: undefined,
    legacyDepth: undefined,
    messages: { open: 0, held: 0, parked: 0, oldestMs: 0 },
    drift: [],
    unread: undefined,
    changedAt: undefined,
    who: undefined,
  }
  t.deepEqual(unsafe(judgeBridge(good)), [])
  t.deepEqual(unsafe(judgeBridge({ ...good, drift: ['order.closed goes past'] })), [
    'bindings of mes.orders',
  ])
  t.deepEqual(unsafe(judgeBridge({ ...good, consumer: false })), ['bridge mes.orders'])
  t.deepEqual(judgeBridge({ ...good, drift: 'unknown' })[0]?.level, 'unread')
  const away = judgeBridge({
    ...good,
    consumer: 'unknown',
    depth: 'unknown',
    legacyDepth: 'unknown',
    drift: 'unknown',
    unread: 'broker_unreachable',
  })
  t.deepEqual(
    away.map(({ level, says }) => [level, says]),
    [['unread', 'broker_unreachable']],
    'what can not be seen is not unsafe',
  )
})

test('what does not run, or does not keep up, is named', (t) => {
  const good: Running = {
    trigger: 'enabled',
    share: 1000,
    relays: 1,
    unrelayedMs: undefined,
    couriers: 1,
    watches: 1,
    undeliveredMs: undefined,
    ordersBridge: 'inserted',
    held: 0,
  }
  const found = (change: Partial<Running>) => unsafe(judgeRunning({ ...good, ...change }))
  t.deepEqual(found({}), [])
  t.deepEqual(found({ trigger: 'disabled' }), ['trigger strangler_capture'])
  t.deepEqual(found({ relays: 0, couriers: 0, watches: 0 }), ['relay', 'courier', 'watch'])
  t.deepEqual(found({ share: 0, couriers: 0 }), [])
  t.deepEqual(found({ share: 0, couriers: 0, undeliveredMs: 10 }), ['courier'])
  t.deepEqual(found({ unrelayedMs: 31_000 }), ['outbox of the Shop DB'])
  const warned = judgeRunning({ ...good, undeliveredMs: 301_000, held: 2 })
  t.deepEqual(
    warned.filter((each) => each.level === 'warn').map((each) => each.subject),
    ['undelivered orders', 'held messages'],
  )
  t.deepEqual(missingForOrders(good), { parts: [], processes: [] })
  const missing = missingForOrders({
    ...good,
    ordersBridge: 'absent',
    couriers: 0,
    relays: 0,
    watches: 0,
    trigger: 'missing',
  })
  t.deepEqual([missing.parts.length, missing.processes.length], [2, 3])
})

const withRedis = serialWith('redis-server')
withRedis('a Redis of its own, safe and unsafe', async (t) => {
  const safe = await startPrivateRedis()
  try {
    const found = await inspectRedis(safe.url)
    t.deepEqual(unsafe(found), [])
    t.true(found.some(({ subject }) => subject === 'Redis appendfsync'))
  } finally {
    await safe.stop()
  }
  t.is((await inspectRedis(safe.url))[0]?.level, 'unread')
  const risky = await startPrivateRedis({ appendonly: 'no', policy: 'allkeys-lru' })
  try {
    t.deepEqual(unsafe(await inspectRedis(risky.url)), [
      'Redis maxmemory-policy',
      'Redis appendonly',
    ])
  } finally {
    await risky.stop()
  }
})

const withRabbit = serialWith('rabbitmq-server')
withRabbit('a RabbitMQ of its own', async (t) => {
  const rabbit = await startPrivateRabbitmq()
  try {
    const api = new URL(rabbit.managementUrl)
    const amqp = new URL(rabbit.url)
    const named = api.username === '' ? amqp : api
    const authorization = `Basic ${Buffer.from(`${named.username || 'guest'}:${named.password || 'guest'}`).toString('base64')}`
    const vhost = amqp.pathname.length > 1 ? amqp.pathname.slice(1) : '%2F'
    const declare = async (queue: string, settings: object): Promise<void> => {
      const answer = await fetch(`${api.origin}/api/queues/${vhost}/${queue}`, {
        method: 'PUT',
        headers: { authorization, 'content-type': 'application/json' },
        body: JSON.stringify(settings),
      })
      t.true(answer.ok, await answer.text())
    }
    await declare('mes.orders', { durable: true })
    await declare('crm.events', { durable: true, arguments: { 'x-queue-type': 'quorum' } })
    const found = await inspectRabbit(rabbit.managementUrl, rabbit.url)
    t.deepEqual(unsafe(found), ['queue crm.events delivery-limit'])
    t.true(found.some(({ subject, level }) => subject === 'unroutable messages' && level === 'ok'))
  } finally {
    await rabbit.stop()
  }
  t.is((await inspectRabbit(rabbit.managementUrl, rabbit.url))[0]?.level, 'unread')
})
