import { StranglerError } from '../../contracts/errors.ts'
import type { Log } from '../../runtime/log.ts'
import { createPool, inTransaction } from '../../runtime/postgres.ts'
import type { Pool } from '../../runtime/postgres.ts'
import type { Binding, Broker, Consumer, QueueDepth, Sender } from './port.ts'
import { PostgresConsumer } from './postgres-consumer.ts'
import { PostgresSender, senderApplicationName } from './postgres-sender.ts'

/** A look at more candidates than this is no cheaper than waiting. */
const maxCandidates = 1000

/** The queue in PostgreSQL behind the functions of its schema `amq`. */
export class PostgresBroker implements Broker {
  readonly kind = 'postgres'
  readonly #url: string
  readonly #confirmTimeoutMs: number
  readonly #log: Log
  readonly #pool: Pool
  readonly #consumers = new Set<PostgresConsumer>()

  constructor(url: string, options: { confirmTimeoutMs: number; log: Log }) {
    this.#url = url
    this.#confirmTimeoutMs = options.confirmTimeoutMs
    this.#log = options.log
    this.#pool = createPool(url, { name: 'strangler-broker', max: 2, log: options.log })
  }

  openSender(name: string): Promise<Sender> {
    return PostgresSender.open(this.#url, name, this.#confirmTimeoutMs)
  }

  async openConsumer(queue: string, prefetch: number, signal?: AbortSignal): Promise<Consumer> {
    const consumer = new PostgresConsumer(this.#url, queue, prefetch, this.#log)
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
      const { rowCount } = await this.#pool.query(
        'SELECT FROM pg_stat_activity WHERE application_name = $1',
        [senderApplicationName(name)],
      )
      return rowCount === 0
    } catch {
      return false
    }
  }

  /** Exact: the queue is a table. `since` is not needed. */
  async mayHold(queue: string, orderId: string): Promise<'no' | 'maybe'> {
    try {
      // An id may be written with JSON escapes, so bodies with a backslash are candidates too; they are parsed here, where
      // a body that can't be read is no error.
      const { rows } = await this.#pool.query<{ named: boolean; body: Buffer }>(
        `SELECT coalesce(properties -> 'headers' ->> 'x-strangler-order' = $2, false) AS named, body FROM amq.message
         WHERE queue = $1 AND (properties -> 'headers' ->> 'x-strangler-order' = $2
           OR position(convert_to($2, 'UTF8') IN body) > 0 OR position('\\x5c'::bytea IN body) > 0) LIMIT ${maxCandidates}`,
        [queue, orderId],
      )
      const found =
        rows.length === maxCandidates ||
        rows.some((row) => row.named || orderIdIn(row.body) === orderId)
      return found ? 'maybe' : 'no'
    } catch {
      return 'maybe'
    }
  }

  async depth(queue: string): Promise<QueueDepth> {
    const { rows } = await this.#pool.query<{ ready: string; unacked: string; consumers: string }>(
      `SELECT count(*) FILTER (WHERE consumer IS NULL) AS ready, count(*) FILTER (WHERE consumer IS NOT NULL) AS unacked,
         greatest(
           (SELECT count(*) FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 44
              AND l.objid::bigint = hashtext($1)::bigint & 4294967295
              AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())),
           count(DISTINCT consumer) FILTER (WHERE EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted
              AND l.classid = 43 AND l.objid::bigint = consumer
              AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())))) AS consumers
       FROM amq.message WHERE queue = $1`,
      [queue],
    )
    const row = rows[0]!
    return {
      ready: Number(row.ready),
      unacked: Number(row.unacked),
      consumers: Number(row.consumers),
    }
  }

  async bindingsOf(queue: string): Promise<Binding[]> {
    const { rows } = await this.#pool.query<{ exchange: string; queue: string; pattern: string }>(
      'SELECT exchange, queue, pattern FROM amq.binding WHERE queue = $1 ORDER BY exchange, pattern',
      [queue],
    )
    return rows
  }

  async declareQueue(queue: string): Promise<void> {
    await this.#pool.query('INSERT INTO amq.queue (name) VALUES ($1) ON CONFLICT DO NOTHING', [
      queue,
    ])
  }

  async declareTopicExchange(exchange: string): Promise<void> {
    await this.#pool.query('INSERT INTO amq.exchange (name) VALUES ($1) ON CONFLICT DO NOTHING', [
      exchange,
    ])
  }

  async deleteQueue(queue: string): Promise<void> {
    await inTransaction(this.#pool, async (client) => {
      // Waits for publishers that are just storing into it; the next statement then sees what they stored.
      await client.query('SELECT FROM amq.queue WHERE name = $1 FOR UPDATE', [queue])
      const { rowCount } = await client.query(
        'DELETE FROM amq.queue q WHERE name = $1 AND NOT EXISTS (SELECT FROM amq.message m WHERE m.queue = q.name)',
        [queue],
      )
      if (rowCount === 1) return
      const left = await client.query('SELECT FROM amq.queue WHERE name = $1', [queue])
      if (left.rowCount !== 0) throw new StranglerError('refused', `queue ${queue} is not empty`)
    })
  }

  async deleteExchange(exchange: string): Promise<void> {
    await this.#pool.query('DELETE FROM amq.exchange WHERE name = $1', [exchange])
  }

  async rebind(change: {
    readonly add: readonly Binding[]
    readonly remove: readonly Binding[]
  }): Promise<{ readonly exact: boolean }> {
    await inTransaction(this.#pool, async (client) => {
      for (const { exchange, queue, pattern } of change.add) {
        await client.query(
          'INSERT INTO amq.binding (exchange, queue, pattern) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING',
          [exchange, queue, pattern],
        )
      }
      for (const { exchange, queue, pattern } of change.remove) {
        await client.query(
          'DELETE FROM amq.binding WHERE exchange = $1 AND queue = $2 AND pattern = $3',
          [exchange, queue, pattern],
        )
      }
    })
    return { exact: true }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#consumers].map((consumer) => consumer.close()))
    await this.#pool.end()
  }
}

function orderIdIn(body: Buffer): unknown {
  try {
    const parsed: unknown = JSON.parse(body.toString('utf8'))
    return typeof parsed === 'object' && parsed !== null && 'orderId' in parsed
      ? parsed.orderId
      : undefined
  } catch {
    return undefined
  }
}
