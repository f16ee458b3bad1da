import { logged } from '../contracts/order-trace.ts'
import type { Log } from '../runtime/log.ts'
import type { Pool } from '../runtime/postgres.ts'
import type { Evidence } from './sink.ts'

interface LadderOptions {
  readonly ledger: Pool
  readonly evidence: Evidence
  /** After the sender is gone, nothing of it can still be under way in the network once this has passed. */
  readonly settleMs: number
  readonly log: Log
}

interface Doubt {
  order_id: string
  gen: number
  traceparent: string | null
  sender: string | null
}

const batch = 500

/**
 * Settles "maybe sent" by evidence, cheapest first; never by time alone and never by hope.
 *
 *   a  the receiver holds the order (its own row, or a status it sent)            -> delivered
 *   b  its sender is gone, the settle time has passed, the queue certainly holds
 *      nothing of it any more, and the receiver, asked once more after that, still
 *      does not hold it                                                           -> accepted, next generation: send again
 *   c  none of these yet                                                          -> stays in doubt; asked again next round
 *
 * The order of b matters: the queue is looked at before the second look at the receiver, so an order that left the queue in
 * between is found by the receiver's row, which the receiver writes before it acknowledges.
 */
export class InDoubtLadder {
  readonly #options: LadderOptions
  /** When each sender was first seen gone, performance.now(). A restart of this process only makes the wait longer. */
  readonly #goneSince = new Map<string, number>()
  #after = ''

  constructor(options: LadderOptions) {
    this.#options = options
  }

  /** One round over everything in doubt; returns how many were settled. */
  async climb(): Promise<{ delivered: number; resent: number; open: number }> {
    const { ledger, evidence } = this.#options
    const { rows: doubts } = await ledger.query<Doubt>(
      `SELECT order_id, gen, traceparent, sender FROM order_ledger
       WHERE state = 'in_doubt' AND path = 'direct' AND order_id > $1 ORDER BY order_id LIMIT ${batch}`,
      [this.#after],
    )
    // Round robin: doubts that can't be settled yet must not keep the ladder from the others.
    const wrapped = this.#after === ''
    this.#after = doubts.length === batch ? doubts.at(-1)!.order_id : ''
    if (doubts.length === 0) {
      if (wrapped) this.#goneSince.clear()
      return { delivered: 0, resent: 0, open: 0 }
    }
    const delivered = await this.#settleHeld(doubts)
    const open = doubts.filter((doubt) => !delivered.has(doubt.order_id))
    const absent: Doubt[] = []
    for (const doubt of open) if (await this.#certainlyNotUnderway(doubt)) absent.push(doubt)
    const late = await evidence.held(absent.map((doubt) => doubt.order_id))
    if (late.size > 0) await this.#settleHeld(absent.filter((doubt) => late.has(doubt.order_id)))
    const resent = await this.#sendAgain(absent.filter((doubt) => !late.has(doubt.order_id)))
    return { delivered: delivered.size + late.size, resent, open: open.length - absent.length }
  }

  async #settleHeld(doubts: readonly Doubt[]): Promise<Set<string>> {
    const { ledger, evidence, log } = this.#options
    const held = await evidence.held(doubts.map((doubt) => doubt.order_id))
    const known = doubts.filter((doubt) => held.has(doubt.order_id))
    if (known.length === 0) return new Set()
    const { rows } = await ledger.query<{ order_id: string }>(
      `WITH settled AS (
         UPDATE order_ledger l SET state = 'delivered', delivered_at = coalesce(l.delivered_at, clock_timestamp())
         FROM unnest($1::text[], $2::int[]) AS d(order_id, gen)
         WHERE l.order_id = d.order_id AND l.gen = d.gen AND l.state = 'in_doubt' RETURNING l.order_id)
       , noted AS (
         INSERT INTO order_event (order_id, hop, kind, actor, detail)
         SELECT s.order_id, 'in doubt', 'note', 'ladder', jsonb_build_object('settled', 'delivered', 'evidence', e.evidence)
         FROM settled s JOIN unnest($1::text[], $3::text[]) AS e(order_id, evidence) ON e.order_id = s.order_id)
       SELECT order_id FROM settled`,
      [
        known.map((doubt) => doubt.order_id),
        known.map((doubt) => doubt.gen),
        known.map((doubt) => held.get(doubt.order_id)!),
      ],
    )
    const settled = new Set(rows.map((row) => row.order_id))
    for (const doubt of known) {
      if (settled.has(doubt.order_id))
        log.info('doubt_settled', { ...about(doubt), as: 'delivered' })
    }
    return settled
  }

  async #certainlyNotUnderway(doubt: Doubt): Promise<boolean> {
    const { evidence, settleMs } = this.#options
    if (doubt.sender === null) return false
    let gone = this.#goneSince.get(doubt.sender)
    if (gone === undefined) {
      if (!(await evidence.connectionGone(doubt.sender))) return false
      gone = performance.now()
      this.#goneSince.set(doubt.sender, gone)
    }
    if (performance.now() < gone + settleMs) return false
    return (await evidence.mayBeUnderway(doubt.order_id, gone + settleMs)) === 'no'
  }

  async #sendAgain(absent: readonly Doubt[]): Promise<number> {
    if (absent.length === 0) return 0
    const { ledger, log } = this.#options
    const { rows } = await ledger.query<{ order_id: string }>(
      `WITH settled AS (
         UPDATE order_ledger l SET state = 'accepted', gen = l.gen + 1, owner_id = NULL, sender = NULL, doubt_at = NULL,
                rung_at = '-infinity', next_attempt_at = clock_timestamp()
         FROM unnest($1::text[], $2::int[]) AS d(order_id, gen)
         WHERE l.order_id = d.order_id AND l.gen = d.gen AND l.state = 'in_doubt' RETURNING l.order_id, l.gen)
       , noted AS (
         INSERT INTO order_event (order_id, hop, kind, actor, detail)
         SELECT order_id, 'in doubt', 'note', 'ladder',
                jsonb_build_object('settled', 'proved absent', 'evidence', 'sender gone, queue without it, MES without it', 'gen', gen)
         FROM settled)
       SELECT order_id FROM settled`,
      [absent.map((doubt) => doubt.order_id), absent.map((doubt) => doubt.gen)],
    )
    const settled = new Set(rows.map((row) => row.order_id))
    for (const doubt of absent) {
      if (settled.has(doubt.order_id))
        log.info('doubt_settled', { ...about(doubt), as: 'absent, sent again' })
    }
    return rows.length
  }
}

function about({ order_id: orderId, traceparent }: Doubt): { orderId: string; traceId: string } {
  return logged({ orderId, traceparent })
}
