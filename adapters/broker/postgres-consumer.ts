import type { Log } from '../../runtime/log.ts'
import { BackOff } from './back-off.ts'
import type { Consumer, Delivery, MessageProperties } from './port.ts'
import { openPostgresSession } from './postgres-session.ts'
import type { PostgresSession } from './postgres-session.ts'
import { WakeUp } from './wake-up.ts'

interface Row {
  readonly id: string
  readonly exchange: string
  readonly routing_key: string
  readonly body: Buffer
  readonly properties: MessageProperties
  readonly redelivered: boolean
}

interface Attached {
  readonly session: PostgresSession
  readonly number: number
}

// Nobody is notified when a consumer dies: what it held is found by looking again.
const lookAgainMs = 250

/**
 * Exclusive by `pg_advisory_lock(44, hashtext(queue))` on its own session, and by the protocol of the broker alive as long
 * as it holds `pg_advisory_lock(43, number)` there. When that session is lost, so is everything that was delivered on it.
 */
export class PostgresConsumer implements Consumer {
  readonly #url: string
  readonly #queue: string
  readonly #prefetch: number
  readonly #log: Log
  readonly #closing = new AbortController()
  readonly #wakeUp = new WakeUp()
  readonly #backOff = new BackOff()
  #attached: Attached | undefined
  /** Delivered and not settled: our tag to the broker's message id. */
  readonly #held = new Map<bigint, string>()
  #nextTag = 1n

  constructor(url: string, queue: string, prefetch: number, log: Log) {
    this.#url = url
    this.#queue = queue
    this.#prefetch = prefetch
    this.#log = log
  }

  /** Resolves once this is the one consumer of the queue; false when it was closed before. */
  async attach(): Promise<boolean> {
    const { signal } = this.#closing
    while (!signal.aborted && this.#attached?.session.alive !== true) {
      this.#held.clear()
      this.#attached = undefined
      const session = await openPostgresSession(this.#url, `consumer:${this.#queue}`).catch(
        (error: unknown) => this.#lost(error),
      )
      if (session === undefined) {
        await this.#backOff.pause(signal)
        continue
      }
      try {
        const free = await this.#becomeConsumer(session)
        if (free) {
          this.#backOff.reset()
          break
        }
        await session.end()
        await this.#wakeUp.wait(lookAgainMs)
      } catch (error) {
        await session.end()
        this.#lost(error)
        await this.#backOff.pause(signal)
      }
    }
    if (signal.aborted) await this.#attached?.session.end()
    return !signal.aborted
  }

  async next(max: number): Promise<Delivery[]> {
    while (await this.attach()) {
      const room = Math.min(max, this.#prefetch - this.#held.size)
      try {
        const deliveries = room > 0 ? await this.#take(room) : []
        if (deliveries.length > 0) return deliveries
        await this.#wakeUp.wait(lookAgainMs)
      } catch (error) {
        await this.#attached?.session.end()
        this.#lost(error)
        await this.#backOff.pause(this.#closing.signal)
      }
    }
    return []
  }

  async ack(deliveries: readonly Delivery[]): Promise<void> {
    await this.#settle('SELECT amq.ack($1, $2)', deliveries)
  }

  async requeue(deliveries: readonly Delivery[]): Promise<void> {
    await this.#settle('SELECT amq.requeue($1, $2)', deliveries)
  }

  async close(): Promise<void> {
    this.#closing.abort()
    this.#wakeUp.ring()
    await this.#attached?.session.end()
  }

  async #becomeConsumer(session: PostgresSession): Promise<boolean> {
    const { client } = session
    const { rows: locks } = await client.query<{ mine: boolean }>(
      'SELECT pg_try_advisory_lock(44, hashtext($1)) AS mine',
      [this.#queue],
    )
    if (locks[0]?.mine !== true) return false
    const { rows } = await client.query<{ me: number }>('SELECT amq.next_consumer() AS me')
    const number = rows[0]!.me
    await client.query('SELECT pg_advisory_lock(43, $1)', [number])
    client.on('notification', (notice) => {
      if (notice.payload === this.#queue) this.#wakeUp.ring()
    })
    session.onLost(this.#wakeUp.ring)
    await client.query('LISTEN amq')
    this.#attached = { session, number }
    return true
  }

  async #take(limit: number): Promise<Delivery[]> {
    const { session, number } = this.#attached!
    const { rows } = await session.client.query<Row>({
      name: 'consume',
      text: 'SELECT id, exchange, routing_key, body, properties, redelivered FROM amq.consume($1, $2, $3)',
      values: [this.#queue, number, limit],
    })
    return rows.map((row) => {
      const tag = this.#nextTag++
      this.#held.set(tag, row.id)
      return {
        tag,
        exchange: row.exchange,
        routingKey: row.routing_key,
        body: row.body,
        properties: row.properties,
        redelivered: row.redelivered,
      }
    })
  }

  async #settle(statement: string, deliveries: readonly Delivery[]): Promise<void> {
    const attached = this.#attached
    if (attached?.session.alive !== true) return
    const ids = deliveries.flatMap(({ tag }) => this.#held.get(tag) ?? [])
    if (ids.length === 0) return
    try {
      await attached.session.client.query(statement, [attached.number, ids])
      for (const { tag } of deliveries) this.#held.delete(tag)
      this.#wakeUp.ring()
    } catch (error) {
      // Not acknowledged, so delivered again.
      await attached.session.end()
      this.#lost(error)
    }
  }

  #lost(error: unknown): undefined {
    if (this.#closing.signal.aborted) return
    this.#log.warn('consumer_lost', { queue: this.#queue, reason: String(error) })
  }
}
