import { setTimeout as delay } from 'node:timers/promises'

import type { Pool } from 'pg'

import type { Log } from '../log.ts'
import { inTransaction } from '../transaction.ts'
import { customerTier, orderSubmitted, type SubmittedOrder } from './order-messages.ts'
import type { OrderSender } from './order-sender.ts'

type Parts = {
  readonly pool: Pool
  readonly send: OrderSender
  readonly pollMs: number
  readonly now: () => Date
  readonly log: Log
}

/** Looks again and again for submitted orders, and asks three times per order for what one query knew. */
export class SubmittedOrdersPoll {
  readonly #parts: Parts
  readonly #stopping = new AbortController()
  #running: Promise<void> = Promise.resolve()

  constructor(parts: Parts) {
    this.#parts = parts
  }

  start(): void {
    this.#running = this.#keepLooking()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#running
  }

  async #keepLooking(): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      try {
        await this.#lookOnce()
      } catch (error) {
        this.#parts.log('poll_failed', { reason: String(error) })
      }
      await delay(this.#parts.pollMs, undefined, { signal }).catch(() => {})
    }
  }

  async #lookOnce(): Promise<void> {
    const { rows } = await this.#parts.pool.query<{ id: string }>(
      `SELECT id FROM orders WHERE status='SUBMITTED' AND crm_sent_at IS NULL ORDER BY created_at LIMIT 50 /* poll */`,
    )
    for (const { id } of rows) {
      if (this.#stopping.signal.aborted) return
      await this.#forward(id)
    }
  }

  /** Marked as sent, then sent. Between the two the order exists nowhere but in the mark. */
  async #forward(id: string): Promise<void> {
    const body = await inTransaction(this.#parts.pool, async (client) => {
      const { rows } = await client.query<SubmittedOrder>(
        `SELECT id, source, client_id, material, quantity, comment, model_key, model_sha256, model_bytes
         FROM orders WHERE id = $1`,
        [id],
      )
      const [order] = rows
      // A partner order came from the MES and is not sent back there.
      if (order?.source !== 'shop') return undefined
      let loyaltyPoints: string | undefined
      if (order.client_id !== null) {
        const found = await client.query<{ loyalty_points: string }>(
          'SELECT loyalty_points FROM clients WHERE id = $1',
          [order.client_id],
        )
        loyaltyPoints = found.rows[0]?.loyalty_points
      }
      await client.query('UPDATE orders SET crm_sent_at = now() WHERE id = $1', [id])
      return orderSubmitted(order, customerTier(loyaltyPoints), this.#parts.now())
    })
    if (body) this.#parts.send('order.submitted', body)
  }
}
