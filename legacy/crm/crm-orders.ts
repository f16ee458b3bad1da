import type { Pool } from 'pg'

import type { OrderStatus } from '../order-status.ts'
import { pagingOf, type Paging } from '../paging.ts'
import { Refusal } from '../refusal.ts'
import { isUuid } from '../uuid.ts'
import { orderMoved } from './order-messages.ts'
import type { OrderSender } from './order-sender.ts'

export type CrmOrder = {
  readonly id: string
  readonly client_id: number | null
  readonly source: string
  readonly external_id: string | null
  readonly status: OrderStatus
  readonly material: string
  readonly quantity: number
  readonly comment: string | null
  readonly price: string | null
  readonly currency: string | null
  readonly created_at: Date
  readonly updated_at: Date
}

export type OrdersPage = Paging & { readonly orders: readonly CrmOrder[] }

const pageSize = 50

const moves = {
  approve: {
    from: 'PRICE_CALCULATED',
    to: 'MANUFACTURING_APPROVED',
    routingKey: 'order.approved',
  },
  close: { from: 'SHIPPED', to: 'CLOSED', routingKey: 'order.closed' },
} as const

/** What the sellers see and decide, straight in the Shop DB. */
export class CrmOrders {
  readonly #pool: Pool
  readonly #send: OrderSender

  constructor(pool: Pool, send: OrderSender) {
    this.#pool = pool
    this.#send = send
  }

  async list(status: OrderStatus | undefined, page: number): Promise<OrdersPage> {
    const wanted = status ?? null
    const counted = await this.#pool.query<{ total: number }>(
      'SELECT count(*) AS total FROM orders WHERE $1::text IS NULL OR status = $1',
      [wanted],
    )
    const { rows } = await this.#pool.query<CrmOrder>(
      `SELECT id, client_id, source, external_id, status, material, quantity, comment, price, currency, created_at, updated_at
       FROM orders WHERE $1::text IS NULL OR status = $1
       ORDER BY created_at DESC, id LIMIT $2 OFFSET $3`,
      [wanted, pageSize, (page - 1) * pageSize],
    )
    return { orders: rows, ...pagingOf(page, counted.rows[0]?.total ?? 0, pageSize) }
  }

  /** Written to the Shop DB first, told to the MES after, unconfirmed. */
  async move(id: string, by: keyof typeof moves, now: Date): Promise<string> {
    const { from, to, routingKey } = moves[by]
    if (!isUuid(id)) throw notFound()
    const { rows } = await this.#pool.query<{ source: string }>(
      'UPDATE orders SET status = $3, updated_at = $4 WHERE id = $1 AND status = $2 RETURNING source',
      [id, from, to, now],
    )
    const [order] = rows
    if (!order) throw await this.#refusedMove(id, from)
    this.#send(routingKey, orderMoved(id, order.source, to, now))
    return to
  }

  async #refusedMove(id: string, expected: string): Promise<Refusal> {
    const { rows } = await this.#pool.query<{ status: string }>(
      'SELECT status FROM orders WHERE id = $1',
      [id],
    )
    const [order] = rows
    if (!order) return notFound()
    return new Refusal(409, 'wrong_status', `the order is ${order.status}, not ${expected}`, {
      status: order.status,
    })
  }
}

function notFound(): Refusal {
  return new Refusal(404, 'order_not_found', 'there is no such order')
}
