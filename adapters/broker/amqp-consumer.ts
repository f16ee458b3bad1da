import { setTimeout as delay } from 'node:timers/promises'

import type { Channel, ConsumeMessage } from 'amqplib'

import type { Log } from '../../runtime/log.ts'
import { openAmqpConnection, replyCode } from './amqp-connection.ts'
import type { AmqpConnection } from './amqp-connection.ts'
import { fromWire } from './amqp-properties.ts'
import { BackOff } from './back-off.ts'
import type { Consumer, Delivery } from './port.ts'
import { WakeUp } from './wake-up.ts'

const retryExclusiveMs = 250

/**
 * A pull over RabbitMQ's push: what the broker pushes, at most `prefetch` messages, waits here for `next`. When the channel
 * is lost, so is everything that was delivered on it; the broker delivers it again.
 */
export class AmqpConsumer implements Consumer {
  readonly #url: string
  readonly #queue: string
  readonly #prefetch: number
  readonly #log: Log
  readonly #closing = new AbortController()
  readonly #arrived = new WakeUp()
  readonly #backOff = new BackOff()
  readonly #ready = Promise.withResolvers<void>()
  readonly #running: Promise<void>
  #channel: Channel | undefined
  #waiting: Delivery[] = []
  /** Delivered on the present channel and not settled, in the order of delivery. */
  readonly #held = new Map<bigint, ConsumeMessage>()
  #nextTag = 1n

  constructor(url: string, queue: string, prefetch: number, log: Log) {
    this.#url = url
    this.#queue = queue
    this.#prefetch = prefetch
    this.#log = log
    this.#running = this.#keepConsuming()
  }

  /** Resolves once this is the one consumer of the queue, or closed. */
  attach(): Promise<void> {
    return this.#ready.promise
  }

  async next(max: number): Promise<Delivery[]> {
    while (!this.#closing.signal.aborted) {
      const deliveries = this.#waiting.splice(0, max)
      if (deliveries.length > 0) return deliveries
      await this.#arrived.wait()
    }
    return []
  }

  async ack(deliveries: readonly Delivery[]): Promise<void> {
    const messages = this.#take(deliveries)
    const [last] = messages.slice(-1)
    if (last === undefined) return
    // One frame instead of hundreds when everything up to the last one is done.
    const [oldest] = this.#held.values()
    const upTo = oldest === undefined || oldest.fields.deliveryTag > last.fields.deliveryTag
    this.#onChannel((channel) => {
      if (upTo) channel.ack(last, true)
      else for (const message of messages) channel.ack(message)
    })
  }

  async requeue(deliveries: readonly Delivery[]): Promise<void> {
    const messages = this.#take(deliveries)
    this.#onChannel((channel) => {
      for (const message of messages) channel.nack(message, false, true)
    })
  }

  async close(): Promise<void> {
    this.#closing.abort()
    this.#arrived.ring()
    await this.#running
  }

  async #keepConsuming(): Promise<void> {
    const { signal } = this.#closing
    while (!signal.aborted) {
      let connection: AmqpConnection | undefined
      try {
        connection = await openAmqpConnection(
          this.#url,
          `strangler consumer ${this.#queue}`,
          this.#log,
        )
        const reason = await this.#consume(connection)
        if (!signal.aborted) this.#log.warn('consumer_lost', { queue: this.#queue, reason })
      } catch (error) {
        if (!signal.aborted)
          this.#log.warn('consumer_lost', { queue: this.#queue, reason: String(error) })
      }
      this.#forget()
      await connection?.close()
      if (!signal.aborted) await this.#backOff.pause(signal)
    }
    this.#ready.resolve()
  }

  /** Resolves with the reason when the channel is lost, or when this is closed and what it held is given back. */
  async #consume(connection: AmqpConnection): Promise<string> {
    const ending = new AbortController()
    const ended = new WakeUp()
    const end = (why: string): void => {
      ending.abort(why)
      ended.ring()
    }
    const stop = (): void => end('closed')
    connection.onLost(end)
    this.#closing.signal.addEventListener('abort', stop, { once: true })
    if (this.#closing.signal.aborted) stop()
    try {
      while (!ending.signal.aborted) {
        const channel = await this.#consumeExclusively(connection, end)
        if (channel === undefined) {
          await ended.wait(retryExclusiveMs)
          continue
        }
        this.#backOff.reset()
        this.#ready.resolve()
        while (!ending.signal.aborted) await ended.wait()
        if (this.#closing.signal.aborted) await this.#giveBack(channel)
      }
      return String(ending.signal.reason)
    } finally {
      this.#closing.signal.removeEventListener('abort', stop)
    }
  }

  /** The closing handshake carries the acknowledgements before it; what is held goes back to the queue. */
  async #giveBack(channel: Channel): Promise<void> {
    this.#channel = undefined
    const closing = (async () => channel.close())().catch(() => undefined)
    await Promise.race([closing, delay(2000, undefined, { ref: false })])
  }

  /** undefined: somebody else consumes the queue. */
  async #consumeExclusively(
    connection: AmqpConnection,
    end: (why: string) => void,
  ): Promise<Channel | undefined> {
    const channel = await connection.openChannel()
    let consuming = false
    let closed = false
    channel.on('close', () => {
      closed = true
      if (consuming) end('channel closed')
    })
    try {
      await channel.prefetch(this.#prefetch)
      this.#channel = channel
      await channel.consume(this.#queue, (message) => this.#onMessage(channel, message, end), {
        exclusive: true,
      })
    } catch (error) {
      this.#forget()
      if (replyCode(error) === 403) return undefined
      throw error
    }
    consuming = true
    if (closed) end('channel closed')
    return channel
  }

  #onMessage(channel: Channel, message: ConsumeMessage | null, end: (why: string) => void): void {
    // null: the queue was deleted. Asking again finds it when it is back.
    if (message === null) return end('queue deleted')
    if (channel !== this.#channel) return
    const tag = this.#nextTag++
    this.#held.set(tag, message)
    this.#waiting.push({
      tag,
      exchange: message.fields.exchange,
      routingKey: message.fields.routingKey,
      body: message.content,
      properties: fromWire(message.properties),
      redelivered: message.fields.redelivered,
    })
    this.#arrived.ring()
  }

  #take(deliveries: readonly Delivery[]): ConsumeMessage[] {
    const messages: ConsumeMessage[] = []
    for (const { tag } of deliveries) {
      const message = this.#held.get(tag)
      if (message === undefined) continue
      this.#held.delete(tag)
      messages.push(message)
    }
    return messages.toSorted((a, b) => a.fields.deliveryTag - b.fields.deliveryTag)
  }

  #onChannel(work: (channel: Channel) => void): void {
    const channel = this.#channel
    if (channel === undefined) return
    try {
      work(channel)
    } catch {
      // On a closed channel there is nothing to settle: the broker delivers the messages again.
    }
  }

  #forget(): void {
    this.#channel = undefined
    this.#waiting = []
    this.#held.clear()
  }
}
