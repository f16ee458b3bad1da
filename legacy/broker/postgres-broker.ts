import type { Broker, BrokerOptions, DeliveryHandler, MessageProperties } from './broker-port.ts'
import { PostgresConsumer } from './postgres-consumer.ts'
import { PostgresPublisher } from './postgres-publisher.ts'

/** The embedded broker: a queue in PostgreSQL behind the functions of schema.sql. */
export class PostgresBroker implements Broker {
  readonly #url: string
  readonly #options: BrokerOptions
  readonly #publisher: PostgresPublisher
  readonly #consumers: PostgresConsumer[] = []

  private constructor(url: string, options: BrokerOptions) {
    this.#url = url
    this.#options = options
    this.#publisher = new PostgresPublisher(url, options.log)
  }

  static async connect(
    url: string,
    options: BrokerOptions,
    signal?: AbortSignal,
  ): Promise<PostgresBroker> {
    const broker = new PostgresBroker(url, options)
    await broker.#publisher.start(signal)
    return broker
  }

  publish(exchange: string, routingKey: string, body: Buffer, properties: MessageProperties): void {
    this.#publisher.publish({ exchange, routingKey, body, properties }).catch((error: unknown) => {
      this.#options.log('publish_lost', { exchange, routingKey, reason: String(error) })
    })
  }

  async publishConfirmed(
    exchange: string,
    routingKey: string,
    body: Buffer,
    properties: MessageProperties,
  ): Promise<void> {
    await this.#publisher.publish({ exchange, routingKey, body, properties })
  }

  consume(queue: string, prefetch: number, handler: DeliveryHandler): void {
    const consumer = new PostgresConsumer(this.#url, queue, prefetch, handler, this.#options)
    this.#consumers.push(consumer)
    consumer.start()
  }

  async close(): Promise<void> {
    await Promise.all(this.#consumers.map((consumer) => consumer.stop()))
    await this.#publisher.stop()
  }
}
