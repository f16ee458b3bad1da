import { once } from 'node:events'

import test from 'ava'

import type { Log } from '../../runtime/log.ts'
import { createPool } from '../../runtime/postgres.ts'
import type { Broker, Consumer } from '../broker/port.ts'
import { BridgeAttachment } from './bridge-attachment.ts'
import { BridgeSender } from './bridge-sender.ts'
import { HeldMessages } from './held-messages.ts'

function never(): never {
  throw new Error('not part of this')
}

const quiet: Log = { info: () => {}, warn: () => {}, error: () => {} }

// The standstill this prevents: the run has ended, the consumer is still attached, and no other process gets the queue.
test('a run that breaks lets go of the queue and asks for it again', async (t) => {
  const closed: number[] = []
  const second = Promise.withResolvers<void>()
  let opened = 0
  const openConsumer = (): Promise<Consumer> => {
    const number = (opened += 1)
    const closing = new AbortController()
    return Promise.resolve({
      async next() {
        if (number === 1) throw new TypeError('not foreseen')
        second.resolve()
        if (!closing.signal.aborted) await once(closing.signal, 'abort')
        return []
      },
      ack: () => Promise.resolve(),
      requeue: () => Promise.resolve(),
      close() {
        closed.push(number)
        closing.abort()
        return Promise.resolve()
      },
    })
  }
  const broker: Broker = {
    kind: 'postgres',
    openConsumer,
    openSender: never,
    senderGone: never,
    mayHold: never,
    depth: never,
    bindingsOf: never,
    declareQueue: never,
    declareTopicExchange: never,
    deleteQueue: never,
    deleteExchange: never,
    rebind: never,
    close: never,
  }
  const pool = createPool('postgres://127.0.0.1:1/none', { name: 'test', log: quiet })
  const queue = 'mes.orders'
  const sender = new BridgeSender(broker, queue, quiet)
  const databases = { ledger: pool, shop: pool, mes: pool }
  const common = { queue, broker, ...databases, sender, ring: () => {}, log: quiet }
  const attachment = new BridgeAttachment({
    ...common,
    held: new HeldMessages({ ...common, settleMs: 0 }),
    counters: {
      received: 0,
      forwarded: 0,
      suppressed: 0,
      diverted: 0,
      unreadable: 0,
      parked: 0,
      held: 0,
    },
  })
  await second.promise
  t.deepEqual(closed, [1])
  t.true(attachment.consuming)
  await attachment.stop()
  t.true(closed.includes(2))
  t.is(opened, 2)
  await pool.end()
})
