import { setTimeout as delay } from 'node:timers/promises'

import test from 'ava'
import type { ExecutionContext } from 'ava'

import { StranglerError } from '../../contracts/errors.ts'
import { hasServer, testWithout } from '../../test/optional-server.ts'
import type { Broker, Consumer, Delivery, Message } from './port.ts'
import { postgresSubject, rabbitmqSubject } from './test-subjects.ts'
import type { Subject } from './test-subjects.ts'

conformance('postgres', postgresSubject)
if (hasServer('rabbitmq-server')) conformance('rabbitmq', rabbitmqSubject)
else testWithout('rabbitmq-server', 'the same suite')

function conformance(kind: Broker['kind'], start: () => Promise<Subject>): void {
  let subject: Subject
  let broker: Broker

  test.before(`${kind}: start`, async () => {
    subject = await start()
    broker = subject.open()
  })
  test.after.always(`${kind}: stop`, async () => {
    await broker?.close()
    await subject?.stop()
  })

  const sequence = (
    title: string,
    run: (t: ExecutionContext, name: string) => Promise<void>,
  ): void =>
    test.serial(`${kind}: ${title}`, async (t) => {
      t.timeout(90_000)
      const name = `t${performance.now()}`
      await broker.declareTopicExchange(name)
      await broker.declareQueue(name)
      await broker.rebind({ add: [{ exchange: name, queue: name, pattern: 'k.#' }], remove: [] })
      await run(t, name)
    })

  sequence('a message arrives as it was sent', async (t, name) => {
    const sender = await broker.openSender('bytes')
    const properties = {
      contentType: 'application/json',
      headers: { 'x-sender': 'crm', nested: { a: ['b'] } },
      correlationId: 'c',
      messageId: 'm',
      timestamp: 1_700_000_000,
      type: 'order',
    }
    const body = Buffer.from('{"orderId":"ä", "n":12345678901234567890 }')
    await sender.publish({ exchange: name, routingKey: 'k.one', body, properties })
    const consumer = await broker.openConsumer(name, 10)
    const [delivery] = await consumer.next(10)
    t.deepEqual(delivery!.body, body)
    t.is(delivery!.exchange, name)
    t.is(delivery!.routingKey, 'k.one')
    t.false(delivery!.redelivered)
    t.deepEqual(delivery!.properties, { ...properties, deliveryMode: 2 })
    await consumer.ack([delivery!])
    await consumer.close()
    await sender.close()
    t.is((await broker.depth(name)).ready, 0)
  })

  sequence('messages of one turn keep their order', async (t, name) => {
    const sender = await broker.openSender('order')
    await Promise.all(numbered(name, 1500).map((message) => sender.publish(message)))
    const consumer = await broker.openConsumer(name, 500)
    t.deepEqual(
      await drain(consumer, 1500),
      Array.from({ length: 1500 }, (_, n) => `${n}`),
    )
    await consumer.close()
    await sender.close()
  })

  sequence('what no queue takes is told, and harms no other message', async (t, name) => {
    const sender = await broker.openSender('unroutable')
    const results = await Promise.allSettled([
      sender.publish({
        exchange: name,
        routingKey: 'k.1',
        body: Buffer.from('same'),
        properties: {},
      }),
      sender.publish({
        exchange: name,
        routingKey: 'other',
        body: Buffer.from('same'),
        properties: {},
      }),
      sender.publish({
        exchange: name,
        routingKey: 'k.1',
        body: Buffer.from('same'),
        properties: {},
      }),
      sender.publish({
        exchange: `${name}.none`,
        routingKey: 'k.1',
        body: Buffer.from('x'),
        properties: {},
      }),
    ])
    t.deepEqual(results.map(codeOf), [
      'confirmed',
      'message_unroutable',
      'confirmed',
      'message_unroutable',
    ])
    t.true(sender.alive)
    t.is((await broker.depth(name)).ready, 2)
    await sender.close()
  })

  sequence('the default exchange leads to the queue of the name', async (t, name) => {
    const sender = await broker.openSender('default-exchange')
    await sender.publish({ exchange: '', routingKey: name, body: Buffer.from('x'), properties: {} })
    t.is((await broker.depth(name)).ready, 1)
    await sender.close()
  })

  sequence('a second consumer waits for the first, and gets what it held', async (t, name) => {
    const sender = await broker.openSender('exclusive')
    await Promise.all(numbered(name, 3).map((message) => sender.publish(message)))
    const first = await broker.openConsumer(name, 10)
    const held = await take(first, 3)
    let second: Consumer | undefined
    const waiting = broker.openConsumer(name, 10).then((consumer) => (second = consumer))
    await delay(600)
    t.is(second, undefined)
    await first.ack(held.slice(0, 1))
    await first.close()
    t.deepEqual(await first.next(1), [])
    const again = await take(await waiting, 2)
    t.deepEqual(again.map(textOf), ['1', '2'])
    t.true(again.every((delivery) => delivery.redelivered))
    await second!.ack(again)
    await second!.close()
    await sender.close()
  })

  sequence('a consumer that nobody lets in can be given up', async (t, name) => {
    const first = await broker.openConsumer(name, 10)
    const giveUp = new AbortController()
    const waiting = broker.openConsumer(name, 10, giveUp.signal)
    giveUp.abort()
    t.deepEqual(await (await waiting).next(1), [])
    await first.close()
  })

  sequence('no more than the prefetch is out at once', async (t, name) => {
    const sender = await broker.openSender('prefetch')
    await Promise.all(numbered(name, 10).map((message) => sender.publish(message)))
    const consumer = await broker.openConsumer(name, 4)
    const held = await take(consumer, 4)
    const next = consumer.next(10)
    t.is(await Promise.race([next.then(() => 'came'), delay(500, 'nothing')]), 'nothing')
    await consumer.requeue(held.slice(3))
    await consumer.ack(held.slice(0, 3))
    t.true((await next).length > 0)
    await consumer.close()
    await sender.close()
  })

  sequence('a sender is known by its name as long as it lives', async (t) => {
    const sender = await broker.openSender('known')
    t.false(await broker.senderGone('known'))
    t.is(codeOf(await settled(broker.openSender('known'))), 'refused')
    await sender.close()
    t.false(sender.alive)
    await until(() => broker.senderGone('known'))
    const again = await broker.openSender('known')
    await again.close()
    t.true(await broker.senderGone('never seen'))
    t.pass()
  })

  sequence('a queue may hold an order until it is acknowledged', async (t, name) => {
    const sender = await broker.openSender('held')
    const message = {
      exchange: name,
      routingKey: 'k.1',
      body: Buffer.from('{"orderId":"a\\u002db","text":"c"}'),
      properties: {},
    }
    await sender.publish(message)
    const since = performance.now()
    const consumer = await broker.openConsumer(name, 10)
    t.is(await broker.mayHold(name, 'a-b', since), 'maybe')
    const held = await consumer.next(1)
    t.is(await broker.mayHold(name, 'a-b', since), 'maybe')
    await consumer.ack(held)
    await until(async () => (await broker.depth(name)).unacked === 0)
    t.is(await broker.mayHold(name, 'a-b', since), 'no')
    await sender.publish({ ...message, body: Buffer.from('not json, about \\ c'), properties: {} })
    t.is(await broker.mayHold(name, 'c', performance.now()), kind === 'postgres' ? 'no' : 'maybe')
    await consumer.close()
    await sender.close()
  })

  sequence('re-binding under flow loses nothing', async (t, name) => {
    const other = `${name}.ours`
    await broker.declareQueue(other)
    const sender = await broker.openSender('flow')
    const sent: Promise<void>[] = []
    const stop = new AbortController()
    const publish = async (): Promise<void> => {
      while (!stop.signal.aborted) {
        for (const message of numbered(name, 10, sent.length)) sent.push(sender.publish(message))
        await delay(2)
      }
    }
    const there = { exchange: name, queue: other, pattern: 'k.#' }
    const here = { exchange: name, queue: name, pattern: 'k.#' }
    const flow = publish()
    await until(async () => (await broker.depth(name)).ready > 500)
    const { exact } = await broker.rebind({ add: [there], remove: [here] })
    t.is(exact, kind === 'postgres')
    await until(async () => (await broker.depth(other)).ready > 500)
    await broker.rebind({ add: [here], remove: [there] })
    await until(async () => (await broker.depth(name)).ready > 1000)
    stop.abort()
    await flow
    await Promise.all(sent)
    const depths = [await broker.depth(name), await broker.depth(other)].map(({ ready }) => ready)
    const bodies: string[] = []
    for (const [index, queue] of [name, other].entries()) {
      const consumer = await broker.openConsumer(queue, 500)
      bodies.push(...(await drain(consumer, depths[index]!)))
      await consumer.close()
    }
    t.is(new Set(bodies).size, sent.length)
    const twice = bodies.length - sent.length
    t.log(`${twice} of ${sent.length} went both ways in two changes`)
    t.true(exact ? twice === 0 : twice < 200)
    await sender.close()
  })

  sequence('a queue with a message in it is not deleted', async (t, name) => {
    const sender = await broker.openSender('delete')
    await sender.publish(numbered(name, 1)[0]!)
    t.is(codeOf(await settled(broker.deleteQueue(name))), 'refused')
    const consumer = await broker.openConsumer(name, 10)
    await consumer.ack(await consumer.next(1))
    await consumer.close()
    await until(async () => (await broker.depth(name)).consumers === 0)
    await broker.deleteQueue(name)
    await broker.deleteQueue(name)
    await broker.deleteExchange(name)
    t.is(codeOf(await settled(sender.publish(numbered(name, 1)[0]!))) === 'confirmed', false)
    await sender.close()
  })

  sequence('the bindings of a queue can be read', async (t, name) => {
    await until(async () => (await broker.bindingsOf(name))?.length === 1)
    t.deepEqual(await broker.bindingsOf(name), [{ exchange: name, queue: name, pattern: 'k.#' }])
  })

  // The loss this prevents: a publish whose promise never settles is an order that nobody sends again.
  sequence(
    'kill -9 of the broker in mid-publish: every publish settles, what was confirmed is there',
    async (t, name) => {
      const sender = await broker.openSender('killed')
      const consumer = await broker.openConsumer(name, 1000)
      const outcomes: Promise<PromiseSettledResult<void>>[] = []
      let killing: Promise<void> | undefined
      for (let n = 0; sender.alive; n += 1) {
        for (const message of numbered(name, 20, n * 20))
          outcomes.push(settled(sender.publish(message)))
        if (n === 60) killing = subject.kill9()
        await delay(1)
      }
      const results = (await Promise.all(outcomes)).map(codeOf)
      const confirmed = results.flatMap((code, n) => (code === 'confirmed' ? [`${n}`] : []))
      t.true(
        results.every((code) =>
          ['confirmed', 'confirm_unknown', 'broker_unreachable'].includes(code),
        ),
      )
      t.true(results.includes('confirm_unknown') && confirmed.length > 0)
      await killing
      await until(() => broker.senderGone('killed'))
      // The consumer finds its way back by itself.
      const seen = new Set<string>()
      while (!confirmed.every((body) => seen.has(body))) {
        const deliveries = await consumer.next(500)
        for (const delivery of deliveries) seen.add(textOf(delivery))
        await consumer.ack(deliveries)
      }
      t.log(
        `${confirmed.length} confirmed and found, ${results.filter((code) => code === 'confirm_unknown').length} unknown`,
      )
      await consumer.close()
      await sender.close()
    },
  )

  sequence(
    'a broker that hangs: the outcome is unknown, and the sender is not taken for gone',
    async (t, name) => {
      const sender = await broker.openSender('hanging')
      await sender.publish(numbered(name, 1)[0]!)
      subject.pause()
      try {
        const outcome = await settled(sender.publish(numbered(name, 1)[0]!))
        t.is(codeOf(outcome), 'confirm_unknown')
        t.false(sender.alive)
        t.is(codeOf(await settled(sender.publish(numbered(name, 1)[0]!))), 'broker_unreachable')
      } finally {
        subject.resume()
      }
      await until(() => broker.senderGone('hanging'))
      await sender.close()
    },
  )
}

function numbered(exchange: string, count: number, from = 0): Message[] {
  return Array.from({ length: count }, (_, n) => ({
    exchange,
    routingKey: 'k.n',
    body: Buffer.from(`${from + n}`),
    properties: {},
  }))
}

function textOf(delivery: Delivery): string {
  return delivery.body.toString()
}

async function take(consumer: Consumer, count: number): Promise<Delivery[]> {
  const taken: Delivery[] = []
  while (taken.length < count) taken.push(...(await consumer.next(count - taken.length)))
  return taken
}

async function drain(consumer: Consumer, count: number): Promise<string[]> {
  const bodies: string[] = []
  while (bodies.length < count) {
    const deliveries = await consumer.next(500)
    bodies.push(...deliveries.map(textOf))
    await consumer.ack(deliveries)
  }
  return bodies
}

async function settled<Value>(promise: Promise<Value>): Promise<PromiseSettledResult<Value>> {
  const [result] = await Promise.allSettled([promise])
  return result
}

function codeOf(result: PromiseSettledResult<unknown>): string {
  if (result.status === 'fulfilled') return 'confirmed'
  return result.reason instanceof StranglerError ? result.reason.code : `not ours: ${result.reason}`
}

/** Polls a state that tells of itself by no signal; the test's own timeout ends it. */
async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds().catch(() => false))) await delay(50)
}
