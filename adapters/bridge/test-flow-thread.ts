import { setTimeout as delay } from 'node:timers/promises'
import { workerData } from 'node:worker_threads'

import amqp from 'amqplib'

import { mesEvent, slot } from './test-flow.ts'
import type { FlowWishes } from './test-flow.ts'

/** In flight at most: what the broker is behind by is not made up for later. */
const window = 4000

// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- startFlow gave it
const { url, orderIds, firstNumber, perSecond, counters } = workerData as FlowWishes

const connection = await amqp.connect(url)
connection.on('blocked', () => Atomics.store(counters, slot.blocked, 1))
connection.on('unblocked', () => Atomics.store(counters, slot.blocked, 0))
const channel = await connection.createConfirmChannel()

const onConfirm = (error: unknown): void => {
  if (error !== null && error !== undefined)
    throw new Error('an event was refused', { cause: error })
  Atomics.add(counters, slot.confirmed, 1)
}

let published = 0
let due = 0
let last = performance.now()
while (Atomics.load(counters, slot.stopping) === 0) {
  await delay(1)
  const now = performance.now()
  const room = Atomics.load(counters, slot.confirmed) + window
  due = Math.min(due + ((now - last) / 1000) * perSecond, room)
  last = now
  for (; published < due; published += 1) {
    const orderId = orderIds[published % orderIds.length]!
    const { exchange, routingKey, body, properties } = mesEvent(
      orderId,
      'PACKAGING',
      firstNumber + published,
    )
    channel.publish(exchange, routingKey, body, { ...properties, persistent: true }, onConfirm)
  }
  Atomics.store(counters, slot.published, published)
}
await channel.waitForConfirms()
await connection.close()
