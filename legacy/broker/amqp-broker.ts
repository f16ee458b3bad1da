import { connect, type Channel, type ConfirmChannel } from 'amqplib'

import { AmqpConsumer } from './amqp-consumer.ts'
import type { Broker, BrokerOptions, DeliveryHandler, MessageProperties } from './broker-port.ts'
import { Link, type Session } from './link.ts'

type AmqpSession = Session & {
  readonly plain: Channel
  readonly confirming: ConfirmChannel
  readonly unconfirmed: Set<(error: Error) => void>
  readonly openChannel: () => Promise<Channel>
}

/** RabbitMQ. A channel that breaks takes the whole session with it: one way to recover, not two. */
export class AmqpBroker implements Broker {
  readonly #options: BrokerOptions
  readonly #link: Link<AmqpSession>
  readonly #consumers: AmqpConsumer[] = []
  readonly #confirming = new Set<Promise<void>>()
  #stopped = false

  private constructor(url: string, options: BrokerOptions) {
    this.#options = options
    this.#link = new Link('amqp', () => this.#open(url), options.log)
  }

  static async connect(
    url: string,
    options: BrokerOptions,
    signal?: AbortSignal,
  ): Promise<AmqpBroker> {
    const broker = new AmqpBroker(url, options)
    await broker.#link.start(signal)
    return broker
  }

  publish(exchange: string, routingKey: string, body: Buffer, properties: MessageProperties): void {
    try {
      const session = this.#sessionToPublish()
      session.plain.publish(exchange, routingKey, body, { ...properties, deliveryMode: 2 })
    } catch (error) {
      this.#options.log('publish_lost', { exchange, routingKey, reason: String(error) })
    }
  }

  publishConfirmed(
    exchange: string,
    routingKey: string,
    body: Buffer,
    properties: MessageProperties,
  ): Promise<void> {
    const confirmed = this.#publishAndWait(exchange, routingKey, body, properties)
    this.#confirming.add(confirmed)
    const done = () => this.#confirming.delete(confirmed)
    confirmed.finally(done).catch(() => {})
    return confirmed
  }

  #publishAndWait(
    exchange: string,
    routingKey: string,
    body: Buffer,
    properties: MessageProperties,
  ): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    try {
      const session = this.#sessionToPublish()
      const options = { ...properties, deliveryMode: 2 }
      // A connection cut hard may never call back.
      session.unconfirmed.add(reject)
      session.confirming.publish(exchange, routingKey, body, options, (error: unknown) => {
        session.unconfirmed.delete(reject)
        if (error === null || error === undefined) resolve()
        else reject(error)
      })
    } catch (error) {
      reject(error)
    }
    return promise
  }

  consume(queue: string, prefetch: number, handler: DeliveryHandler): void {
    const consumer = new AmqpConsumer(queue, prefetch, handler, this.#options)
    this.#consumers.push(consumer)
    const session = this.#link.session
    if (session) this.#startConsumer(consumer, session)
  }

  async close(): Promise<void> {
    await Promise.all(this.#consumers.map((consumer) => consumer.stop()))
    this.#stopped = true
    await Promise.allSettled(this.#confirming)
    await this.#link.stop()
  }

  #sessionToPublish(): AmqpSession {
    if (this.#stopped) throw new Error('broker closed')
    if (!this.#link.session) throw new Error('broker away')
    return this.#link.session
  }

  #startConsumer(consumer: AmqpConsumer, session: AmqpSession): void {
    consumer.attach(session.openChannel).catch(async (error: unknown) => {
      this.#options.log('consumer_lost', { reason: String(error) })
      await session.end()
    })
  }

  async #open(url: string): Promise<AmqpSession> {
    const connection = await connect(url, { timeout: 5000, keepAlive: true })
    const lost = Promise.withResolvers<void>()
    const channels: Channel[] = []
    const unconfirmed = new Set<(error: Error) => void>()
    const lose = () => {
      for (const reject of unconfirmed) reject(new Error('broker lost before it confirmed'))
      unconfirmed.clear()
      lost.resolve()
    }
    const end = async () => {
      // Closing a channel flushes what was published on it; closing the connection alone does not.
      await Promise.allSettled(channels.map(async (channel) => channel.close()))
      await connection.close().catch(() => {})
      lose()
    }
    connection.on('error', lose)
    connection.on('close', lose)
    const watch = <C extends Channel>(channel: C): C => {
      channel.on('error', (error) => {
        this.#options.log('channel_lost', { reason: String(error) })
        void end()
      })
      channels.push(channel)
      return channel
    }
    try {
      const session: AmqpSession = {
        plain: watch(await connection.createChannel()),
        confirming: watch(await connection.createConfirmChannel()),
        unconfirmed,
        openChannel: async () => watch(await connection.createChannel()),
        lost: lost.promise,
        end,
      }
      for (const consumer of this.#consumers) this.#startConsumer(consumer, session)
      return session
    } catch (error) {
      await end()
      throw error
    }
  }
}
