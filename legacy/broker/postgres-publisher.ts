import type { BrokerOptions, MessageProperties } from './broker-port.ts'
import { Link } from './link.ts'
import { openPostgresSession, type PostgresSession } from './postgres-session.ts'

type Outgoing = {
  readonly exchange: string
  readonly routingKey: string
  readonly body: Buffer
  readonly properties: MessageProperties
}

type Waiting = Outgoing & { stored(): void; failed(error: unknown): void }

const batchLimit = 200

/** Publishes in the order of the calls; whatever gathers during one round trip goes with the next. */
export class PostgresPublisher {
  readonly #link: Link<PostgresSession>
  readonly #waiting: Waiting[] = []
  #sending: Promise<void> | undefined
  #stopped = false

  constructor(url: string, log: BrokerOptions['log']) {
    this.#link = new Link(
      'publisher',
      () => openPostgresSession(url, 'legacy-broker-publisher'),
      log,
    )
  }

  start(signal?: AbortSignal): Promise<void> {
    return this.#link.start(signal)
  }

  publish(message: Outgoing): Promise<void> {
    if (this.#stopped) return Promise.reject(new Error('broker closed'))
    if (!this.#link.session) return Promise.reject(new Error('broker away'))
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#waiting.push({ ...message, stored: resolve, failed: reject })
    this.#sending ??= this.#sendAll()
    return promise
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#sending
    await this.#link.stop()
  }

  async #sendAll(): Promise<void> {
    await Promise.resolve()
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, batchLimit)
      try {
        await this.#send(batch)
        for (const message of batch) message.stored()
      } catch (error) {
        for (const message of batch) message.failed(error)
      }
    }
    // In the same turn as the look that found nothing: a message published after it starts anew.
    this.#sending = undefined
  }

  async #send(batch: readonly Waiting[]): Promise<void> {
    const session = this.#link.session
    if (!session) throw new Error('broker away')
    await session.client.query(
      'SELECT amq.publish_batch($1::text[], $2::text[], $3::bytea[], $4::jsonb[])',
      [
        batch.map((message) => message.exchange),
        batch.map((message) => message.routingKey),
        batch.map((message) => message.body),
        batch.map((message) => JSON.stringify({ ...message.properties, deliveryMode: 2 })),
      ],
    )
  }
}
