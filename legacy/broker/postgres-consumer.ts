import { setTimeout as delay } from 'node:timers/promises'

import { Signal } from '../signal.ts'
import { BackOff } from './back-off.ts'
import type { BrokerOptions, DeliveryHandler, MessageProperties } from './broker-port.ts'
import { openPostgresSession, type PostgresSession } from './postgres-session.ts'

type Row = {
  readonly id: string
  readonly exchange: string
  readonly routing_key: string
  readonly body: Buffer
  readonly properties: MessageProperties
  readonly redelivered: boolean
}

// Nobody is notified when a consumer dies: what it held is found by looking again.
const lookAgainMs = 500

/** The session that consumes also holds the lock by which others see that this consumer lives. */
export class PostgresConsumer {
  readonly #url: string
  readonly #queue: string
  readonly #prefetch: number
  readonly #handler: DeliveryHandler
  readonly #options: BrokerOptions
  readonly #stopping = new AbortController()
  #running: Promise<void> = Promise.resolve()

  constructor(
    url: string,
    queue: string,
    prefetch: number,
    handler: DeliveryHandler,
    options: BrokerOptions,
  ) {
    this.#url = url
    this.#queue = queue
    this.#prefetch = prefetch
    this.#handler = handler
    this.#options = options
  }

  start(): void {
    this.#running = this.#keepConsuming()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#running
  }

  async #keepConsuming(): Promise<void> {
    const { signal } = this.#stopping
    const backOff = new BackOff()
    while (!signal.aborted) {
      let session: PostgresSession | undefined
      try {
        session = await openPostgresSession(this.#url, 'legacy-broker-consumer')
        backOff.reset()
        await this.#consume(session)
      } catch (error) {
        this.#options.log('consumer_lost', { queue: this.#queue, reason: String(error) })
      } finally {
        await session?.end()
      }
      await backOff.pause(signal)
    }
  }

  async #consume(session: PostgresSession): Promise<void> {
    const { client } = session
    const { signal } = this.#stopping
    const look = new Signal()
    const raise = () => look.raise()
    client.on('notification', (notice) => {
      if (notice.payload === this.#queue) raise()
    })
    client.on('end', raise)
    signal.addEventListener('abort', raise)
    try {
      const me = await becomeConsumer(session)
      await client.query('LISTEN amq')
      while (!signal.aborted && !session.isLost()) {
        const { rows } = await client.query<Row>(
          'SELECT id, exchange, routing_key, body, properties, redelivered FROM amq.consume($1, $2, $3)',
          [this.#queue, me, this.#prefetch],
        )
        if (rows.length > 0) await this.#handleAll(session, me, rows)
        else await look.wait(lookAgainMs)
      }
    } finally {
      signal.removeEventListener('abort', raise)
    }
  }

  async #handleAll(session: PostgresSession, me: number, rows: readonly Row[]): Promise<void> {
    for (const [position, row] of rows.entries()) {
      if (this.#stopping.signal.aborted) {
        await requeue(session, me, rows.slice(position))
        return
      }
      try {
        await this.#handler({
          exchange: row.exchange,
          routingKey: row.routing_key,
          body: row.body,
          properties: row.properties,
          redelivered: row.redelivered,
        })
      } catch (error) {
        this.#options.log('delivery_requeued', { queue: this.#queue, reason: String(error) })
        await delay(this.#options.requeueDelayMs ?? 250)
        // Everything held goes back with it, or the later ones would overtake it.
        await requeue(session, me, rows.slice(position))
        return
      }
      await session.client.query('SELECT amq.ack($1, $2)', [me, [row.id]])
    }
  }
}

async function becomeConsumer(session: PostgresSession): Promise<number> {
  const { rows } = await session.client.query<{ me: number }>('SELECT amq.next_consumer() AS me')
  const me = rows[0]?.me
  if (me === undefined) throw new Error('no consumer number')
  await session.client.query('SELECT pg_advisory_lock(43, $1)', [me])
  return me
}

async function requeue(session: PostgresSession, me: number, rows: readonly Row[]): Promise<void> {
  await session.client.query('SELECT amq.requeue($1, $2)', [me, rows.map((row) => row.id)])
}
