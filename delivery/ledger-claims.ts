import type { OrderIdentity } from '../contracts/order-trace.ts'
import { failpoint } from '../runtime/failpoint.ts'
import { GroupCommit } from '../runtime/group-commit.ts'
import type { Pool } from '../runtime/postgres.ts'
import type { Ring } from './doorbell.ts'

/** An order that this courier holds: its row says `sending` under our owner id until one of the settlements below commits. */
export interface ClaimedOrder extends OrderIdentity {
  readonly routingKey: string
  readonly body: Buffer
}

interface ClaimRow {
  order_id: string
  gen: number
  traceparent: string | null
  routing_key: string
  body: Buffer
}

// SKIP LOCKED: a row that another claim has in hand is theirs; waiting for it could only deadlock two batches.
// The state is compared as an expression, so that no partial index over it fits: in a sudden backlog the planner's statistics
// still say that such an index is empty, and every rung order would be looked up by reading all that wait (measured with
// 100 000 waiting: 0.4 of the rate).
const claimRung = `
  WITH wanted AS (
    SELECT l.order_id FROM unnest($1::text[], $2::int[]) AS r(order_id, gen) JOIN order_ledger l ON l.order_id = r.order_id AND l.gen = r.gen
    WHERE l.state || '' = 'accepted' AND l.path = 'direct' AND l.next_attempt_at <= clock_timestamp()
    FOR UPDATE OF l SKIP LOCKED)
  UPDATE order_ledger l SET state = 'sending', owner_id = $3, sender = $4, attempts = attempts + 1, sending_at = clock_timestamp()
  FROM wanted w WHERE l.order_id = w.order_id
  RETURNING l.order_id, l.gen, l.traceparent, l.routing_key, l.body`

const claimQuiet = `
  WITH wanted AS (
    SELECT order_id FROM order_ledger
    WHERE state = 'accepted' AND path = 'direct' AND next_attempt_at <= clock_timestamp()
      AND rung_at <= clock_timestamp() - $3::float8 * interval '1 millisecond'
    ORDER BY accepted_at LIMIT $4 FOR UPDATE SKIP LOCKED)
  UPDATE order_ledger l SET state = 'sending', owner_id = $1, sender = $2, attempts = attempts + 1, sending_at = clock_timestamp()
  FROM wanted w WHERE l.order_id = w.order_id
  RETURNING l.order_id, l.gen, l.traceparent, l.routing_key, l.body`

/**
 * One courier's hold on the ledger. Claims and settlements are group commits: many orders, one statement, one fsync.
 * Every settlement names owner and generation, so a courier that was taken over changes nothing any more.
 *
 * A claim whose answer was lost (its connection broke after the commit) leaves rows `sending` that nobody has in hand, and
 * nobody else may take them while we live. Therefore one claim at a time, a list of what is in hand, and `letGoOfUnknown`.
 */
export class LedgerClaims {
  readonly #ledger: Pool
  readonly #ownerId: number
  readonly #claims: GroupCommit<{ ring: Ring; sender: string }, ClaimedOrder | undefined>
  readonly #deliveries: GroupCommit<ClaimedOrder, boolean>
  /** Claimed and not settled yet, by order id. */
  readonly #inHand = new Set<string>()
  #lastClaim: Promise<unknown> = Promise.resolve()
  /** Until then (performance.now()) a claim without an answer may still come to light. */
  #uncertainUntil = 0

  constructor(ledger: Pool, ownerId: number) {
    this.#ledger = ledger
    this.#ownerId = ownerId
    this.#claims = new GroupCommit(async (wanted) => {
      // A batch may straddle a reconnect of the sender; the youngest name is the one all of them will be sent through.
      const sender = wanted.at(-1)!.sender
      const orders = await this.#claimed({
        name: 'claim-rung',
        text: claimRung,
        values: [
          wanted.map((each) => each.ring.orderId),
          wanted.map((each) => each.ring.gen),
          ownerId,
          sender,
        ],
      })
      const claimed = new Map(orders.map((order) => [order.orderId, order]))
      return wanted.map((each) => {
        // The same order rung twice in one batch is claimed once.
        const order = claimed.get(each.ring.orderId)
        claimed.delete(each.ring.orderId)
        return order
      })
    })
    this.#deliveries = new GroupCommit(async (orders) => {
      const { rows } = await this.#ledger.query<{ order_id: string }>({
        name: 'mark-delivered',
        text: `UPDATE order_ledger l SET state = 'delivered', delivered_at = coalesce(l.delivered_at, clock_timestamp())
               FROM unnest($1::text[], $2::int[]) AS d(order_id, gen)
               WHERE l.order_id = d.order_id AND l.gen = d.gen AND l.owner_id = $3
                 -- 'delivered' too: the answer of the first try may have been lost after its commit.
                 AND l.state IN ('sending', 'delivered')
               RETURNING l.order_id`,
        values: [orders.map((order) => order.orderId), orders.map((order) => order.gen), ownerId],
      })
      const marked = new Set(rows.map((row) => row.order_id))
      this.#settled(orders)
      return orders.map((order) => marked.has(order.orderId))
    })
  }

  /** Claims the rung order for the named sender; undefined when there is nothing to do (delivered, held, newer, not due). */
  claim(ring: Ring, sender: string): Promise<ClaimedOrder | undefined> {
    return this.#claims.push({ ring, sender })
  }

  /** Claims up to `limit` orders that have waited at least `quietMs` since they were last rung, oldest first. */
  async claimQuiet(limit: number, quietMs: number, sender: string): Promise<ClaimedOrder[]> {
    return this.#claimed({
      name: 'claim-quiet',
      text: claimQuiet,
      values: [this.#ownerId, sender, quietMs, limit],
    })
  }

  /**
   * Gives back what the ledger says we hold and we do not have in hand: it was certainly never sent. Looks only for a while
   * after a claim has failed; looking always cost three quarters of the rate with 100 000 orders waiting.
   */
  letGoOfUnknown(): Promise<number> {
    if (performance.now() > this.#uncertainUntil) return Promise.resolve(0)
    return this.#oneAtATime(async () => {
      const { rows } = await this.#ledger.query<{ order_id: string }>(
        `UPDATE order_ledger SET state = 'accepted', owner_id = NULL, sender = NULL
         WHERE state = 'sending' AND owner_id = $1 AND NOT (order_id = ANY($2::text[])) RETURNING order_id`,
        [this.#ownerId, [...this.#inHand]],
      )
      return rows.length
    })
  }

  /** The sink has the order durably. */
  delivered(order: ClaimedOrder): Promise<boolean> {
    return this.#deliveries.push(order)
  }

  /** The sink certainly does not have the order: it goes back, due after `delayMs`. */
  async notTaken(orders: readonly ClaimedOrder[], delayMs: number): Promise<void> {
    await this.#settle(
      orders,
      `state = 'accepted', owner_id = NULL, sender = NULL, next_attempt_at = clock_timestamp() + ${Math.round(delayMs)} * interval '1 millisecond'`,
    )
  }

  /** The sink may have the order: only evidence moves it from here. */
  async inDoubt(orders: readonly ClaimedOrder[]): Promise<void> {
    await this.#settle(orders, `state = 'in_doubt', doubt_at = clock_timestamp()`)
  }

  /** The sink will never take the order as it is. */
  async dead(order: ClaimedOrder, reason: { code: string; detail: string }): Promise<void> {
    await this.#ledger.query(
      `UPDATE order_ledger SET state = 'dead', dead_reason = $4 WHERE order_id = $1 AND gen = $2 AND state = 'sending' AND owner_id = $3`,
      [order.orderId, order.gen, this.#ownerId, JSON.stringify(reason)],
    )
    this.#settled([order])
  }

  #claimed(statement: { name: string; text: string; values: unknown[] }): Promise<ClaimedOrder[]> {
    return this.#oneAtATime(async () => {
      const { rows } = await this.#ledger.query<ClaimRow>(statement).catch((error: unknown) => {
        // The server may still be at it when its client has gone.
        this.#uncertainUntil = performance.now() + 60_000
        throw error
      })
      if (rows.length > 0) failpoint('courier.claimed')
      for (const row of rows) this.#inHand.add(row.order_id)
      return rows.map(toClaimed)
    })
  }

  #oneAtATime<Result>(work: () => Promise<Result>): Promise<Result> {
    const turn = this.#lastClaim.then(work)
    // The next turn comes after this one whatever becomes of it; who asked hears of the failure.
    this.#lastClaim = turn.catch(() => undefined)
    return turn
  }

  #settled(orders: readonly ClaimedOrder[]): void {
    for (const order of orders) this.#inHand.delete(order.orderId)
  }

  async #settle(orders: readonly ClaimedOrder[], change: string): Promise<void> {
    if (orders.length === 0) return
    await this.#ledger.query(
      `UPDATE order_ledger l SET ${change} FROM unnest($1::text[], $2::int[]) AS s(order_id, gen)
       WHERE l.order_id = s.order_id AND l.gen = s.gen AND l.state || '' = 'sending' AND l.owner_id = $3`,
      [orders.map((order) => order.orderId), orders.map((order) => order.gen), this.#ownerId],
    )
    this.#settled(orders)
  }
}

function toClaimed(row: ClaimRow): ClaimedOrder {
  const { order_id: orderId, routing_key: routingKey, ...rest } = row
  return { orderId, routingKey, ...rest }
}
