import { randomUUID } from 'node:crypto'

import { DatabaseError, type Pool } from 'pg'

import type { StoredModel } from '../model-store.ts'
import { Refusal } from '../refusal.ts'
import { isUuid } from '../uuid.ts'
import type { ShopOrder } from './shop-order.ts'

export type NewOrder = {
  readonly clientId: number | null
  readonly material: string
  readonly quantity: number
  readonly comment: string | null
}

const uploadable = ['INITIATED', 'FILE_UPLOADED']

export function orderNotFound(): Refusal {
  return new Refusal(404, 'order_not_found', 'there is no such order')
}

/** The Shop's part of an order's life. Each step is one UPDATE that asks for the status before it. */
export class Orders {
  readonly #pool: Pool

  constructor(pool: Pool) {
    this.#pool = pool
  }

  async find(id: string): Promise<ShopOrder> {
    if (!isUuid(id)) throw orderNotFound()
    const { rows } = await this.#pool.query<ShopOrder>('SELECT * FROM orders WHERE id = $1', [id])
    const [order] = rows
    if (!order) throw orderNotFound()
    return order
  }

  async create(order: NewOrder, now: Date): Promise<string> {
    const id = randomUUID()
    try {
      await this.#pool.query(
        `INSERT INTO orders (id, client_id, source, status, material, quantity, comment, created_at, updated_at)
         VALUES ($1, $2, 'shop', 'INITIATED', $3, $4, $5, $6, $6)`,
        [id, order.clientId, order.material, order.quantity, order.comment, now],
      )
    } catch (error) {
      if (error instanceof DatabaseError && error.constraint === 'orders_client_id_fkey') {
        throw new Refusal(422, 'unknown_client', 'there is no such client', { field: 'client_id' })
      }
      throw error
    }
    return id
  }

  async mayUpload(id: string): Promise<void> {
    const { status } = await this.find(id)
    if (!uploadable.includes(status)) throw wrongStatus(status)
  }

  async attachModel(id: string, model: StoredModel, now: Date): Promise<void> {
    const { rowCount } = await this.#pool.query(
      `UPDATE orders SET status = 'FILE_UPLOADED', model_key = $2, model_sha256 = $3, model_bytes = $4, updated_at = $5
       WHERE id = $1 AND status = ANY($6)`,
      [id, model.key, model.sha256, model.bytes, now, uploadable],
    )
    if (rowCount !== 1) throw wrongStatus((await this.find(id)).status)
  }

  /** Submitting again changes nothing and is answered the same. */
  async submit(id: string, now: Date): Promise<string> {
    if (!isUuid(id)) throw orderNotFound()
    const { rowCount } = await this.#pool.query(
      `UPDATE orders SET status='SUBMITTED', updated_at=$2 WHERE id=$1 AND status='FILE_UPLOADED'`,
      [id, now],
    )
    if (rowCount === 1) return 'SUBMITTED'
    const { status } = await this.find(id)
    if (status === 'INITIATED') {
      throw new Refusal(409, 'model_missing', 'the order has no model file yet')
    }
    return status
  }
}

function wrongStatus(status: string): Refusal {
  return new Refusal(409, 'wrong_status', `the order is already ${status}`, { status })
}
