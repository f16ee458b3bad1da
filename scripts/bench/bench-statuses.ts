import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'

import { openBroker } from '../../adapters/broker/open-broker.ts'
import type { Broker, Message } from '../../adapters/broker/port.ts'
import { eventsToCrm, forwardExchange } from '../../adapters/wire/legacy-topology.ts'
import { type Rate, rateOf } from '../../delivery/bench/rate.ts'
import { type Estate, startEstate } from '../../estate/estate.ts'
import type { PostgresServer } from '../../estate/postgres-server.ts'
import { createLog } from '../../runtime/log.ts'
import { createPool, type Pool } from '../../runtime/postgres.ts'
import { type Alternated, alternate, type Rounds } from './alternate.ts'
import { addHistoricOrders } from './historic-orders.ts'

const log = createLog('bench')

export interface StatusBenchSize {
  readonly ordersPerRound: number
  readonly rounds: Rounds
  readonly pacedSeconds: number
  readonly historic: number
}

export interface StatusServerResult {
  /** Against the bare consumer, with no order there but those of the bench. */
  readonly empty: Alternated
  readonly paced: Rate
  /** The same with the history, which the bare consumer's table has, too: its rate beside that of before says what that costs it. */
  readonly withHistory: Alternated
}

const history = [
  'MANUFACTURING_STARTED',
  'MANUFACTURING_COMPLETED',
  'PACKAGING',
  'SHIPPED',
] as const
const eventsPerOrder = history.length + 1
const properties = { contentType: 'application/json', headers: { 'x-sender': 'mes' } }

/**
 * Events from the legacy queue to the committed row of the Shop, against a bare consumer that does one UPDATE per message: the
 * same messages, the same servers, rounds in turn. The events of the orders come in turn, so that hardly two of an order meet in a batch.
 */
export async function benchStatuses(
  options: {
    postgres: PostgresServer
    name: string
    redisUrl?: string
    amqp?: { url: string; managementUrl: string }
  },
  size: StatusBenchSize,
  say: (line: string) => void,
): Promise<StatusServerResult> {
  const estate = await startEstate({
    postgres: options.postgres,
    databasePrefix: `bench_statuses_${options.name}_`,
    ...(options.redisUrl === undefined ? {} : { queueUrl: options.redisUrl }),
    ...(options.amqp === undefined
      ? {}
      : { amqpUrl: options.amqp.url, amqpManagementUrl: options.amqp.managementUrl }),
    without: ['shop', 'crm', 'mes', 'proxy', 'relay', 'courier', 'watch'],
  })
  const bench = new StatusBench(estate)
  const show = (what: string, rate: Rate): void =>
    say(
      `  ${options.name}: ${what.padEnd(34)} ${String(rate.perSecond).padStart(7)}/s` +
        (rate.p99 === 0 ? '' : `   p50 ${rate.p50} ms   p99 ${rate.p99} ms`),
    )
  const againstBare = (): Promise<Alternated> =>
    alternate(size.rounds, (_block, measure) =>
      measure({
        peer: () => bench.bareConsumer(size.ordersPerRound),
        ours: () => bench.backlog(size.ordersPerRound),
      }),
    )
  try {
    await bench.prepare()
    // Code is warm before anything is counted.
    await bench.bareConsumer(Math.ceil(size.ordersPerRound / 10))
    await bench.backlog(Math.ceil(size.ordersPerRound / 10))
    const empty = await againstBare()
    show('bare consumer, an UPDATE a message', empty.peer)
    show('legacy queue -> Shop row', empty.ours)
    const paced = await bench.paced(size.pacedSeconds)
    show('the same at 1 000 events/s', paced)
    await addHistoricOrders(estate, size.historic)
    const withHistory = await againstBare()
    show(`bare consumer, ${size.historic} orders there`, withHistory.peer)
    show(`legacy queue -> Shop row, ${size.historic} orders there`, withHistory.ours)
    return { empty, paced, withHistory }
  } finally {
    await bench.close()
    await estate.stop()
  }
}

class StatusBench {
  readonly #estate: Estate
  readonly #broker: Broker
  readonly #shop: Pool
  readonly #ledger: Pool

  constructor(estate: Estate) {
    this.#estate = estate
    this.#broker = openBroker(estate.operatorEnvironment['BROKER_URL']!, {
      managementUrl: estate.operatorEnvironment['AMQP_MANAGEMENT_URL'],
      log,
    })
    this.#shop = createPool(estate.databases.shop, { name: 'bench', log })
    this.#ledger = createPool(estate.databases.ledger, { name: 'bench', log })
  }

  async close(): Promise<void> {
    await this.#broker.close()
    await Promise.all([this.#shop.end(), this.#ledger.end()])
  }

  async prepare(): Promise<void> {
    await this.#must('bridge', 'insert')
    await this.#must('advance', 'statuses-direct', '--share', '100%', '--force', '--why', 'bench')
  }

  async #must(...args: string[]): Promise<void> {
    const { code, stderr } = await this.#estate.strangler(...args)
    if (code !== 0) throw new Error(`strangler ${args.join(' ')} ended with ${code}: ${stderr}`)
  }

  /**
   * The peer: takes, writes each message with a statement of its own, acknowledges them together. No inbox, no proof. It writes the
   * same rows, with the same triggers on them, and reads where CRM would, behind the bridge.
   */
  async bareConsumer(orders: number): Promise<Rate> {
    const ids = await this.#newShopOrders(orders)
    await this.#publish(eventsOf(ids), forwardExchange(eventsToCrm.queue))
    const consumer = await this.#broker.openConsumer(eventsToCrm.queue, 400)
    const client = await this.#shop.connect()
    const began = performance.now()
    try {
      for (let left = orders * eventsPerOrder; left > 0;) {
        const deliveries = await consumer.next(200)
        for (const { body } of deliveries) {
          const event = readEvent(body)
          await client.query({
            name: 'bare',
            text: 'UPDATE orders SET status = $2, price = coalesce($3, price), currency = coalesce($4, currency), updated_at = now() WHERE id = $1',
            values: [event.orderId, event.status, event.price ?? null, event.currency ?? null],
          })
        }
        await consumer.ack(deliveries)
        left -= deliveries.length
      }
      return rateOf(orders * eventsPerOrder, performance.now() - began, [])
    } finally {
      client.release()
      await consumer.close()
    }
  }

  /** All events wait in the legacy queue, before a bridge that is frozen; from its thaw to the last committed row. */
  async backlog(orders: number): Promise<Rate> {
    const ids = await this.#newOrders(orders)
    const bridge = this.#estate.process('bridge')
    bridge.pause()
    try {
      await this.#publish(eventsOf(ids), eventsToCrm.exchange)
    } finally {
      bridge.resume()
    }
    const began = performance.now()
    await this.#untilApplied(ids)
    return rateOf(orders * eventsPerOrder, performance.now() - began, [])
  }

  /** At a steady rate; latencies from the sender's clock to the settled event, which is after the commit in the Shop. */
  async paced(seconds: number): Promise<Rate> {
    const ids = await this.#newOrders(200 * seconds)
    const events = eventsOf(ids)
    const sender = await this.#broker.openSender(`bench.${randomUUID()}`)
    const began = performance.now()
    try {
      for (let tick = 0; tick * 50 < events.length; tick += 1) {
        const now = new Date().toISOString()
        await Promise.all(
          events
            .slice(tick * 50, tick * 50 + 50)
            .map((event) => sender.publish(messageOf(event, now, eventsToCrm.exchange))),
        )
        await delay(Math.max(0, began + (tick + 1) * 50 - performance.now()))
      }
      await this.#untilApplied(ids)
    } finally {
      await sender.close()
    }
    const took = performance.now() - began
    const { rows } = await this.#ledger.query<{ ms: number }>(
      `SELECT (extract(epoch FROM settled_at - source_at) * 1000)::float8 AS ms FROM status_inbox WHERE order_id = ANY($1::text[])`,
      [ids],
    )
    return rateOf(
      events.length,
      took,
      rows.map((row) => row.ms),
    )
  }

  /** Approved orders that the ledger has delivered: every status of the MES may come. */
  async #newOrders(count: number): Promise<string[]> {
    const ids = await this.#newShopOrders(count)
    await this.#ledger.query(
      `INSERT INTO order_ledger (order_id, origin, source_ref, path, path_epoch, path_reason, state, routing_key, body, body_sha256, submitted_at, delivered_at)
       SELECT id, 'shop', id, 'direct', 1, '{}', 'delivered', 'order.submitted', ''::bytea, sha256(''::bytea), now(), now() FROM unnest($1::text[]) AS o(id)`,
      [ids],
    )
    return ids
  }

  async #newShopOrders(count: number): Promise<string[]> {
    const ids = Array.from({ length: count }, () => randomUUID())
    await this.#shop.query(
      `INSERT INTO orders (id, status, material, quantity, crm_sent_at) SELECT id, 'MANUFACTURING_APPROVED', 'PLA', 1, now() FROM unnest($1::uuid[]) AS o(id)`,
      [ids],
    )
    return ids
  }

  async #publish(events: readonly StatusEvent[], exchange: string): Promise<void> {
    const sender = await this.#broker.openSender(`bench.${randomUUID()}`)
    try {
      for (let at = 0; at < events.length; at += 500) {
        const now = new Date().toISOString()
        await Promise.all(
          events
            .slice(at, at + 500)
            .map((event) => sender.publish(messageOf(event, now, exchange))),
        )
      }
    } finally {
      await sender.close()
    }
  }

  /** The queue is in order, so when the last event of the last order is there, all have been diverted. */
  async #untilApplied(ids: readonly string[]): Promise<void> {
    for (;;) {
      const { rows } = await this.#shop.query<{ status: string }>(
        'SELECT status FROM orders WHERE id = $1',
        [ids.at(-1)],
      )
      if (rows[0]?.status === 'SHIPPED') break
      await delay(20)
    }
    for (;;) {
      const { rowCount } = await this.#ledger.query(
        `SELECT FROM status_inbox WHERE state IN ('open', 'waiting') LIMIT 1`,
      )
      if (rowCount === 0) break
      await delay(10)
    }
    const { rows } = await this.#shop.query<{ count: number }>(
      `SELECT count(*)::int AS count FROM orders WHERE id = ANY($1::uuid[]) AND status = 'SHIPPED' AND price = 12.30`,
      [ids],
    )
    if (rows[0]!.count !== ids.length)
      throw new Error(`expected ${ids.length} shipped and priced orders, got ${rows[0]!.count}`)
  }
}

interface StatusEvent {
  readonly orderId: string
  readonly status: string
  readonly price?: string
  readonly currency?: string
}

function eventsOf(ids: readonly string[]): StatusEvent[] {
  return [
    ...ids.map((orderId) => ({
      orderId,
      status: 'PRICE_CALCULATED',
      price: '12.30',
      currency: 'EUR',
    })),
    ...history.flatMap((status) => ids.map((orderId) => ({ orderId, status }))),
  ]
}

function messageOf(event: StatusEvent, occurredAt: string, exchange: string): Message {
  const { orderId, status, price, currency } = event
  const head = `"orderId":"${orderId}","source":"shop","status":"${status}","occurredAt":"${occurredAt}"`
  return {
    exchange,
    routingKey: price === undefined ? 'order.status_changed' : 'order.price_calculated',
    body: Buffer.from(
      price === undefined ? `{${head}}` : `{${head},"price":${price},"currency":"${currency}"}`,
    ),
    properties,
  }
}

function readEvent(body: Buffer): StatusEvent {
  const event: StatusEvent = JSON.parse(body.toString())
  return event
}
