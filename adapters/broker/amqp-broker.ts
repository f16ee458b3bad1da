import type { Channel } from 'amqplib'

import { asStranglerError, StranglerError } from '../../contracts/errors.ts'
import type { Log } from '../../runtime/log.ts'
import { openAmqpConnection, replyCode } from './amqp-connection.ts'
import type { AmqpConnection } from './amqp-connection.ts'
import { AmqpConsumer } from './amqp-consumer.ts'
import { AmqpManagement } from './amqp-management.ts'
import { rebindPipelined } from './amqp-rebind.ts'
import { AmqpSender, senderQueue } from './amqp-sender.ts'
import type { Binding, Broker, Consumer, QueueDepth, Sender } from './port.ts'

export interface AmqpBrokerOptions {
  /** RabbitMQ's management API. Without it nothing is ever proved about a queue's unacknowledged messages. */
  readonly managementUrl: string | undefined
  readonly confirmTimeoutMs: number
  readonly log: Log
}

/** RabbitMQ, by AMQP 0-9-1. */
export class AmqpBroker implements Broker {
  readonly kind = 'rabbitmq'
  readonly #url: string
  readonly #options: AmqpBrokerOptions
  readonly #management: AmqpManagement | undefined
  readonly #consumers = new Set<AmqpConsumer>()
  /** performance.now() before the question that found the queue empty. */
  readonly #seenEmptyAt = new Map<string, number>()
  #connection: Promise<AmqpConnection> | undefined
  #closed = false

  constructor(url: string, options: AmqpBrokerOptions) {
    this.#url = url
    this.#options = options
    if (options.managementUrl !== undefined) {
      this.#management = new AmqpManagement(options.managementUrl, url)
    }
  }

  openSender(name: string): Promise<Sender> {
    return AmqpSender.open(this.#url, name, this.#options)
  }

  async openConsumer(queue: string, prefetch: number, signal?: AbortSignal): Promise<Consumer> {
    const consumer = new AmqpConsumer(this.#url, queue, prefetch, this.#options.log)
    this.#consumers.add(consumer)
    const stop = (): void => void consumer.close()
    signal?.addEventListener('abort', stop, { once: true })
    if (signal?.aborted === true) stop()
    await consumer.attach()
    signal?.removeEventListener('abort', stop)
    return consumer
  }

  async senderGone(name: string): Promise<boolean> {
    try {
      await this.#onChannel((channel) => channel.checkQueue(senderQueue(name)))
      return false
    } catch (error) {
      // 405: locked by the connection that declared it, which lives. Anything but "not found" proves nothing.
      return replyCode(error) === 404
    }
  }

  /** RabbitMQ can't look for an order; only an empty queue, seen after `since`, proves that it holds none. */
  async mayHold(queue: string, _orderId: string, since: number): Promise<'no' | 'maybe'> {
    if (this.#management === undefined || performance.now() < since) return 'maybe'
    if ((this.#seenEmptyAt.get(queue) ?? Number.NEGATIVE_INFINITY) >= since) return 'no'
    const askedAt = performance.now()
    try {
      const totals = await this.#management.queueTotals(queue)
      if (totals === undefined || totals.ready > 0 || totals.unacked > 0) return 'maybe'
      this.#seenEmptyAt.set(queue, askedAt)
      return 'no'
    } catch {
      return 'maybe'
    }
  }

  async depth(queue: string): Promise<QueueDepth> {
    const { messageCount, consumerCount } = await this.#topology((channel) =>
      channel.checkQueue(queue),
    )
    const totals = await this.#management?.queueTotals(queue).catch(() => undefined)
    return { ready: messageCount, unacked: totals?.unacked, consumers: consumerCount }
  }

  async bindingsOf(queue: string): Promise<Binding[] | undefined> {
    return this.#management?.bindingsOf(queue)
  }

  async declareQueue(queue: string): Promise<void> {
    // Classic, whatever the virtual host's default: a quorum queue drops what was redelivered too often.
    await this.#topology((channel) =>
      channel.assertQueue(queue, { durable: true, arguments: { 'x-queue-type': 'classic' } }),
    )
  }

  async declareTopicExchange(exchange: string): Promise<void> {
    await this.#topology((channel) => channel.assertExchange(exchange, 'topic', { durable: true }))
  }

  async deleteQueue(queue: string): Promise<void> {
    await this.#topology(async (channel) => {
      // `ifEmpty` looks at the ready messages only, but a consumer's unacknowledged ones are why it must be unused, too.
      await channel.deleteQueue(queue, { ifEmpty: true, ifUnused: true })
    })
  }

  async deleteExchange(exchange: string): Promise<void> {
    await this.#topology((channel) => channel.deleteExchange(exchange))
  }

  async rebind(change: {
    readonly add: readonly Binding[]
    readonly remove: readonly Binding[]
  }): Promise<{ readonly exact: boolean }> {
    await this.#topology(async (channel) => {
      if (change.remove.length > 0) await rebindPipelined(channel, change)
      else
        for (const { queue, exchange, pattern } of change.add)
          await channel.bindQueue(queue, exchange, pattern)
    })
    return { exact: false }
  }

  async close(): Promise<void> {
    this.#closed = true
    await Promise.all([...this.#consumers].map((consumer) => consumer.close()))
    const connection = await this.#connection?.catch(() => undefined)
    await connection?.close()
  }

  async #topology<Result>(work: (channel: Channel) => Promise<Result>): Promise<Result> {
    try {
      return await this.#onChannel(work)
    } catch (error) {
      const code = replyCode(error)
      if (code === 404) throw new StranglerError('not_found', String(error), error)
      if (code === 403 || code === 405 || code === 406) {
        throw new StranglerError('refused', String(error), error)
      }
      throw asStranglerError(error, 'broker_unreachable')
    }
  }

  /** A failed operation closes its channel, so each one gets its own. */
  async #onChannel<Result>(work: (channel: Channel) => Promise<Result>): Promise<Result> {
    const connection = await this.#connected()
    const channel = await connection.openChannel()
    const result = await work(channel)
    await channel.close()
    return result
  }

  /** One connection for all, opened again when it is lost; callers at the same time share the opening. */
  #connected(): Promise<AmqpConnection> {
    const before = this.#connection
    const open = async (): Promise<AmqpConnection> => {
      const present = await before?.catch(() => undefined)
      if (present?.alive === true) return present
      if (this.#closed) throw new StranglerError('broker_unreachable', 'closed')
      return openAmqpConnection(this.#url, 'strangler topology', this.#options.log)
    }
    this.#connection = open()
    return this.#connection
  }
}
