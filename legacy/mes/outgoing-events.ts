import { setTimeout as delay } from 'node:timers/promises'

import type { Pool, PoolClient } from 'pg'

import type { Broker } from '../broker/broker-port.ts'
import type { Log } from '../log.ts'
import { Signal } from '../signal.ts'
import type { OrderEvent } from './order-events.ts'

type Row = { readonly id: number; readonly routing_key: string; readonly body: Buffer }

const properties = { contentType: 'application/json', headers: { 'x-sender': 'mes' } }
const batch = 100
const lookAgainMs = 1000

/** Events are stored with the change they tell of and published after it: each at least once, in order. */
export class OutgoingEvents {
  readonly #pool: Pool
  readonly #broker: Broker
  readonly #log: Log
  readonly #stopping = new AbortController()
  readonly #recorded = new Signal()
  #running: Promise<void> = Promise.resolve()

  constructor(pool: Pool, broker: Broker, log: Log) {
    this.#pool = pool
    this.#broker = broker
    this.#log = log
  }

  /** Within the transaction of the change; `announce` after its commit. */
  async record(client: PoolClient, event: OrderEvent): Promise<void> {
    await client.query(
      'INSERT INTO outgoing_events (order_id, routing_key, body) VALUES ($1, $2, $3)',
      [event.orderId, event.routingKey, event.body],
    )
  }

  announce(): void {
    this.#recorded.raise()
  }

  start(): void {
    this.#running = this.#keepPublishing()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#recorded.raise()
    await this.#running
  }

  async #keepPublishing(): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      try {
        if (!(await this.#publishSome())) await this.#recorded.wait(lookAgainMs)
      } catch (error) {
        this.#log('events_wait', { reason: String(error) })
        await delay(250, undefined, { signal }).catch(() => {})
      }
    }
    // What was in hand when the stop came still leaves; the rest leaves after the next start.
    await this.#publishSome().catch(() => false)
  }

  async #publishSome(): Promise<boolean> {
    const { rows } = await this.#pool.query<Row>(
      'SELECT id, routing_key, body FROM outgoing_events WHERE published_at IS NULL ORDER BY id LIMIT $1',
      [batch],
    )
    for (const { id, routing_key: key, body } of rows) {
      await this.#broker.publishConfirmed('mes.events', key, body, properties)
      await this.#pool.query('UPDATE outgoing_events SET published_at = now() WHERE id = $1', [id])
    }
    return rows.length > 0
  }
}
