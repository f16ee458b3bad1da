import { randomUUID } from 'node:crypto'

import test, { type ExecutionContext } from 'ava'

import { type PrivateRabbitmq, startPrivateRabbitmq } from '../../estate/private-rabbitmq.ts'
import { hasServer, serialWith } from '../../test/optional-server.ts'
import { gateBefore } from '../gate-under-test.ts'
import { eventually, legacyUnderTest, type LegacyUnderTest } from '../legacy-under-test.ts'
import type { Broker, Delivery } from './broker-port.ts'
import { connectBroker } from './broker.ts'
import { declareLegacyTopology } from './declare-amqp.ts'

const options = { log: () => {}, requeueDelayMs: 20 }
const json = { contentType: 'application/json', headers: { 'x-sender': 'crm' } }

let legacy: LegacyUnderTest
let rabbitmq: PrivateRabbitmq | undefined
test.before(async () => {
  legacy = await legacyUnderTest()
  if (!hasServer('rabbitmq-server')) return
  rabbitmq = await startPrivateRabbitmq()
  await declareLegacyTopology(rabbitmq.url)
})
test.after.always(async () => {
  await rabbitmq?.stop()
  await legacy?.stop()
})

const onRabbitmq = serialWith('rabbitmq-server')

function onBothBrokers(
  title: string,
  suite: (t: ExecutionContext, url: string) => Promise<void>,
): void {
  test.serial(`postgres: ${title}`, (t) => suite(t, legacy.urls.broker))
  onRabbitmq(`amqp: ${title}`, (t) => suite(t, rabbitmq!.url))
}

function send(broker: Broker, text: string, key = 'order.submitted'): Promise<void> {
  return broker.publishConfirmed('crm.orders', key, Buffer.from(text), json)
}

function texts(received: readonly Delivery[]): string[] {
  return received.map((delivery) => delivery.body.toString())
}

onBothBrokers('delivers in order, with what it was sent with', async (t, url) => {
  const broker = await connectBroker(url, options)
  t.teardown(() => broker.close())
  const received: Delivery[] = []
  broker.consume('mes.orders', 5, async (delivery) => {
    received.push(delivery)
  })
  const sent = Array.from({ length: 30 }, (_, n) => `${n} ü`)
  for (const text of sent.slice(0, 20)) {
    broker.publish('crm.orders', 'order.submitted', Buffer.from(text), json)
  }
  await eventually(async () => received.length === 20)
  for (const text of sent.slice(20)) await send(broker, text)
  await eventually(async () => received.length === 30)
  t.deepEqual(texts(received), sent)
  t.like(received[0], {
    exchange: 'crm.orders',
    routingKey: 'order.submitted',
    redelivered: false,
  })
  t.like(received[0]?.properties, json)
  t.is(received[0]?.properties.messageId, undefined)
})

onBothBrokers('a key nobody is bound to goes nowhere and harms nothing', async (t, url) => {
  const broker = await connectBroker(url, options)
  t.teardown(() => broker.close())
  const received: Delivery[] = []
  await send(broker, 'nowhere', 'order.unheard')
  await send(broker, 'somewhere')
  broker.consume('mes.orders', 5, async (delivery) => {
    received.push(delivery)
  })
  await eventually(async () => received.length > 0)
  t.deepEqual(texts(received), ['somewhere'])
})

onBothBrokers('what a handler rejects comes again, before what is behind it', async (t, url) => {
  const broker = await connectBroker(url, options)
  t.teardown(() => broker.close())
  const handled: string[] = []
  let failures = 3
  let redelivered = false
  for (const text of ['a', 'b', 'c']) await send(broker, text)
  broker.consume('mes.orders', 10, async (delivery) => {
    const text = delivery.body.toString()
    if (text === 'b' && failures > 0) {
      failures -= 1
      throw new Error('not yet')
    }
    if (text === 'b') ({ redelivered } = delivery)
    handled.push(text)
  })
  await eventually(async () => handled.length === 3)
  t.deepEqual([handled, failures, redelivered], [['a', 'b', 'c'], 0, true])
})

onBothBrokers('close ends the delivery in hand and gives back the rest', async (t, url) => {
  const first = await connectBroker(url, options)
  const handled: string[] = []
  const begun = Promise.withResolvers<void>()
  const mayEnd = Promise.withResolvers<void>()
  for (const text of ['a', 'b', 'c']) await send(first, text)
  first.consume('mes.orders', 10, async (delivery) => {
    begun.resolve()
    await mayEnd.promise
    handled.push(delivery.body.toString())
  })
  await begun.promise
  const closed = first.close()
  mayEnd.resolve()
  await closed
  t.deepEqual(handled, ['a'])
  const second = await connectBroker(url, options)
  t.teardown(() => second.close())
  second.consume('mes.orders', 10, async (delivery) => {
    handled.push(delivery.body.toString())
  })
  await eventually(async () => handled.length === 3)
  t.deepEqual(handled, ['a', 'b', 'c'])
})

onBothBrokers('goes on by itself after the broker was away', async (t, url) => {
  const gate = await gateBefore(url)
  const broker = await connectBroker(gate.url, options)
  t.teardown(() => broker.close())
  const direct = await connectBroker(url, options)
  t.teardown(() => direct.close())
  const received: Delivery[] = []
  broker.consume('mes.orders', 5, async (delivery) => {
    received.push(delivery)
  })
  await send(broker, 'before')
  await eventually(async () => received.length === 1)

  await gate.shut()
  broker.publish('crm.orders', 'order.submitted', Buffer.from('lost'), json)
  await t.throwsAsync(() => send(broker, 'refused'))
  await send(direct, 'meanwhile')
  await gate.open()

  const last = `after ${randomUUID()}`
  await eventually(async () => {
    try {
      await send(broker, last)
      return true
    } catch {
      return false
    }
  })
  await eventually(async () => texts(received).includes(last))
  // Handled is not yet acknowledged: what the broker had no acknowledgement of comes again, and says so.
  const handled = received.filter(
    (delivery, index) =>
      !delivery.redelivered || texts(received).indexOf(delivery.body.toString()) === index,
  )
  t.deepEqual(
    texts(handled).filter((text) => text !== last),
    ['before', 'meanwhile'],
  )
})

onBothBrokers('what a dying consumer held is delivered again, marked as such', async (t, url) => {
  const gate = await gateBefore(url)
  const dying = await connectBroker(gate.url, options)
  const begun = Promise.withResolvers<void>()
  const released = Promise.withResolvers<void>()
  dying.consume('mes.orders', 5, async () => {
    begun.resolve()
    await released.promise
  })
  const living = await connectBroker(url, options)
  t.teardown(() => living.close())
  await send(living, 'held')
  await begun.promise
  await gate.shut()
  const received: Delivery[] = []
  living.consume('mes.orders', 5, async (delivery) => {
    received.push(delivery)
  })
  await eventually(async () => received.length > 0)
  t.like(received[0], { redelivered: true, routingKey: 'order.submitted' })
  released.resolve()
  await dying.close()
})

test.serial('a connection that never comes can be given up', async (t) => {
  const giveUp = new AbortController()
  const connecting = connectBroker('postgres://127.0.0.1:1/none', options, giveUp.signal)
  giveUp.abort()
  await t.throwsAsync(connecting)
})

test.serial('topic patterns match whole words', async (t) => {
  for (const [pattern, key, expected] of [
    ['order.*', 'order.closed', true],
    ['order.*', 'order.closed.late', false],
    ['order.#', 'order', true],
    ['order.#', 'order.closed.late', true],
    ['#.late', 'order.closed.late', true],
    ['#', 'order.closed', true],
    ['*', 'order.closed', false],
    ['a.b.*', 'axb.c', false],
    ['order.closed', 'orderxclosed', false],
  ] as const) {
    const [row] = await legacy.query<{ matches: boolean }>(
      'broker',
      'SELECT amq.topic_matches($1, $2) AS matches',
      [pattern, key],
    )
    t.is(row?.matches, expected, `${pattern} ${key}`)
  }
})
