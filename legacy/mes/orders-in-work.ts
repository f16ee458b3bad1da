import type { Pool, PoolClient } from 'pg'

import type { OrderStatus } from '../order-status.ts'
import { pagingOf, type Paging } from '../paging.ts'
import { Refusal } from '../refusal.ts'
import { inTransaction } from '../transaction.ts'
import { isUuid } from '../uuid.ts'
import type { ChangeFeed } from './change-feed.ts'
import type { MesOrder } from './mes-order.ts'
import { orderCreated, priceCalculated, statusChanged, type OrderEvent } from './order-events.ts'
import type { OutgoingEvents } from './outgoing-events.ts'
import { workSteps, type WorkStep } from './work-steps.ts'

export type ArrivedOrder = Omit<
  MesOrder,
  | 'id'
  | 'status'
  | 'model_read_sha256'
  | 'price'
  | 'currency'
  | 'operator'
  | 'received_at'
  | 'updated_at'
>

export type OrdersPage = Paging & { readonly orders: readonly MesOrder[] }

const pageSize = 25

/** Every change of an order, its event in the same transaction, and word of it to the open pages. */
export class OrdersInWork {
  readonly #pool: Pool
  readonly #events: OutgoingEvents
  readonly #feed: ChangeFeed
  readonly #now: () => Date

  constructor(pool: Pool, events: OutgoingEvents, feed: ChangeFeed, now: () => Date) {
    this.#pool = pool
    this.#events = events
    this.#feed = feed
    this.#now = now
  }

  /** In work is everything that is not closed. */
  async list(status: OrderStatus | undefined, page: number): Promise<OrdersPage> {
    const which = status === undefined ? `status <> 'CLOSED' AND $1::text IS NULL` : 'status = $1'
    const wanted = status ?? null
    const counted = await this.#pool.query<{ total: number }>(
      `SELECT count(*) AS total FROM orders WHERE ${which}`,
      [wanted],
    )
    const { rows } = await this.#pool.query<MesOrder>(
      `SELECT * FROM orders WHERE ${which} ORDER BY id DESC LIMIT $2 OFFSET $3`,
      [wanted, pageSize, (page - 1) * pageSize],
    )
    return { orders: rows, ...pagingOf(page, counted.rows[0]?.total ?? 0, pageSize) }
  }

  async find(orderId: string): Promise<readonly MesOrder[]> {
    if (!isUuid(orderId)) throw notFound()
    const { rows } = await this.#pool.query<MesOrder>(
      'SELECT * FROM orders WHERE order_id = $1 ORDER BY id',
      [orderId],
    )
    if (rows.length === 0) throw notFound()
    return rows
  }

  async arrived(order: ArrivedOrder): Promise<void> {
    const stored = await insertOrder(this.#pool, order, this.#now())
    if (stored) this.#tell(stored)
  }

  /** Undefined when the database let the row disappear: then no one is told of it. */
  takePartnerOrder(order: ArrivedOrder): Promise<MesOrder | undefined> {
    return this.#change(orderCreated, (client, now) => insertOrder(client, order, now))
  }

  priced(id: number, price: string, readSha256: string): Promise<MesOrder | undefined> {
    return this.#change(
      (order, now) => priceCalculated(order, price, now),
      (client, now) =>
        updated(
          client,
          `UPDATE orders SET status = 'PRICE_CALCULATED', price = $2, currency = 'EUR',
             model_read_sha256 = $3, updated_at = $4
           WHERE id = $1 AND status = 'SUBMITTED' RETURNING *`,
          [id, price, readSha256, now],
        ),
    )
  }

  /** A decision of the CRM. It knows it already and is told nothing; the rows it changed. */
  async decided(orderId: string, from: OrderStatus, to: OrderStatus): Promise<number> {
    const { rows } = await this.#pool.query<MesOrder>(
      'UPDATE orders SET status = $3, updated_at = $4 WHERE order_id = $1 AND status = $2 RETURNING *',
      [orderId, from, to, this.#now()],
    )
    for (const order of rows) this.#tell(order)
    return rows.length
  }

  /** One row of work per click: of two operators at once, the second finds the status gone. */
  async move(orderId: string, step: WorkStep, operator: string | null): Promise<void> {
    if (!isUuid(orderId)) throw notFound()
    const { from, to } = workSteps[step]
    const order = await this.#change(statusChanged, (client, now) =>
      updated(
        client,
        `UPDATE orders SET status = $3, operator = coalesce($4, operator), updated_at = $5
         WHERE status = $2
           AND id = (SELECT id FROM orders WHERE order_id = $1 AND status = $2 ORDER BY id LIMIT 1)
         RETURNING *`,
        [orderId, from, to, operator, now],
      ),
    )
    if (order) return
    const [found] = await this.find(orderId)
    const taker = found?.operator ? `, taken by ${found.operator}` : ''
    throw new Refusal(409, 'wrong_status', `This order is already ${found?.status}${taker}.`)
  }

  async #change(
    eventOf: (order: MesOrder, now: Date) => OrderEvent,
    change: (client: PoolClient, now: Date) => Promise<MesOrder | undefined>,
  ): Promise<MesOrder | undefined> {
    const now = this.#now()
    const changed = await inTransaction(this.#pool, async (client) => {
      const order = await change(client, now)
      if (order) await this.#events.record(client, eventOf(order, now))
      return order
    })
    if (changed) {
      this.#events.announce()
      this.#tell(changed)
    }
    return changed
  }

  #tell(order: MesOrder): void {
    this.#feed.tell({ orderId: order.order_id, status: order.status })
  }
}

async function updated(
  client: PoolClient,
  statement: string,
  values: readonly unknown[],
): Promise<MesOrder | undefined> {
  const { rows } = await client.query<MesOrder>(statement, [...values])
  return rows[0]
}

async function insertOrder(
  client: Pool | PoolClient,
  order: ArrivedOrder,
  now: Date,
): Promise<MesOrder | undefined> {
  const { rows } = await client.query<MesOrder>(
    `INSERT INTO orders (order_id, source, external_id, partner, client_id, customer_tier, status, model_key,
       model_sha256, model_bytes, material, quantity, comment, redelivered, received_at, updated_at)
     VALUES ($1, $2, $3, $4, $5, $6, 'SUBMITTED', $7, $8, $9, $10, $11, $12, $13, $14, $14) RETURNING *`,
    [
      order.order_id,
      order.source,
      order.external_id,
      order.partner,
      order.client_id,
      order.customer_tier,
      order.model_key,
      order.model_sha256,
      order.model_bytes,
      order.material,
      order.quantity,
      order.comment,
      order.redelivered,
      now,
    ],
  )
  return rows[0]
}

function notFound(): Refusal {
  return new Refusal(404, 'order_not_found', 'There is no such order.')
}
