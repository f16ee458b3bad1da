import { setTimeout as delay } from 'node:timers/promises'

import type { Pool } from 'pg'

import type { Log } from '../log.ts'
import type { ModelStore } from '../model-store.ts'
import { Signal } from '../signal.ts'
import { burnCpu } from './burn-cpu.ts'
import type { MesOrder } from './mes-order.ts'
import type { OrdersInWork } from './orders-in-work.ts'
import { priceOf } from './price-of.ts'
import { readModel } from './read-model.ts'

type Parts = {
  readonly pool: Pool
  readonly store: ModelStore
  readonly orders: OrdersInWork
  readonly microsecondsPerTriangle: number
  readonly log: Log
}

type Postponed = { readonly until: number; readonly pause: number }

const firstPause = 200
const longestPause = 10_000
const lookAgainMs = 1000

/** One order at a time, in this process. The table is the queue: a restart goes on where the last run ended. */
export class PriceQueue {
  readonly #parts: Parts
  readonly #stopping = new AbortController()
  readonly #orderStored = new Signal()
  readonly #postponed = new Map<number, Postponed>()
  #running: Promise<void> = Promise.resolve()

  constructor(parts: Parts) {
    this.#parts = parts
  }

  orderStored(): void {
    this.#orderStored.raise()
  }

  start(): void {
    this.#running = this.#keepPricing()
  }

  /** A calculation in hand is given up between two slices and done again after the next start. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#orderStored.raise()
    await this.#running
  }

  async #keepPricing(): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      try {
        const order = await this.#nextOrder()
        if (order) await this.#priceOrPostpone(order)
        else await this.#orderStored.wait(this.#untilNextLook())
      } catch (error) {
        if (signal.aborted) return
        this.#parts.log('pricing_failed', { reason: String(error) })
        await delay(500, undefined, { signal }).catch(() => {})
      }
    }
  }

  async #nextOrder(): Promise<MesOrder | undefined> {
    const now = performance.now()
    const notYet = [...this.#postponed].filter(([, { until }]) => until > now).map(([id]) => id)
    const { rows } = await this.#parts.pool.query<MesOrder>(
      `SELECT * FROM orders WHERE status = 'SUBMITTED' AND price IS NULL AND id <> ALL($1::bigint[])
       ORDER BY id LIMIT 1`,
      [notYet],
    )
    return rows[0]
  }

  async #priceOrPostpone(order: MesOrder): Promise<void> {
    const { store, orders, microsecondsPerTriangle, log } = this.#parts
    try {
      const model = await store.read(order.model_key)
      if (!model) throw new Error('the model is not in the store yet')
      const { triangles, sha256 } = await readModel(model.content, model.bytes)
      await burnCpu((triangles * microsecondsPerTriangle) / 1000, this.#stopping.signal)
      await orders.priced(order.id, priceOf(triangles, order), sha256)
      this.#postponed.delete(order.id)
    } catch (error) {
      if (this.#stopping.signal.aborted) return
      const pause = Math.min(
        longestPause,
        (this.#postponed.get(order.id)?.pause ?? firstPause / 2) * 2,
      )
      this.#postponed.set(order.id, { until: performance.now() + pause, pause })
      log('price_postponed', { orderId: order.order_id, pause, reason: String(error) })
    }
  }

  #untilNextLook(): number {
    const soonest = Math.min(...[...this.#postponed.values()].map(({ until }) => until))
    return Math.max(10, Math.min(lookAgainMs, soonest - performance.now()))
  }
}
