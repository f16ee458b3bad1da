import type { Log } from '../../runtime/log.ts'
import { inTransaction } from '../../runtime/postgres.ts'
import type { Pool } from '../../runtime/postgres.ts'
import type { Broker } from '../broker/port.ts'
import { findInMes } from '../wire/mes-orders.ts'
import { settle } from './bridge-inbox.ts'
import type { InboxState } from './bridge-inbox.ts'
import type { BridgeSender, OpenedSender } from './bridge-sender.ts'
import { forward } from './forward.ts'
import { submittedKey } from './incoming.ts'
import { markDelivered } from './order-paths.ts'
import { propertiesFromJson } from './stored-properties.ts'

interface HeldRow {
  id: string
  /** null: unreadable, parked and given back by a person. */
  order_id: string | null
  routing_key: string
  body: Buffer
  properties: unknown
  waiting: boolean
  age_ms: number
}

type HeldOrder = HeldRow & { readonly order_id: string }

interface Evidence {
  /** performance.now() when nothing could send it any more. */
  readonly since: number
  queueEmpty: boolean
}

export interface HeldMessagesOptions {
  readonly queue: string
  readonly broker: Broker
  readonly ledger: Pool
  readonly mes: Pool
  readonly sender: BridgeSender
  /** What a sender that is gone has left in the network has arrived when this has passed. */
  readonly settleMs: number
  readonly log: Log
}

const batch = 200
const tellAfterMs = 60_000

/**
 * The ladder for an `order.submitted` that the MES may have. By evidence alone, cheapest first:
 *   a  the MES holds the order                                                    -> forwarded
 *   b  every sender that may have sent it is gone (ours can be opened anew), the re-binding is over, the settle time has
 *      passed, the legacy queue certainly holds nothing of the order, and the MES, asked once more after that, does not
 *      hold it either                                                             -> sent again
 *   c  none of these                                                              -> held, asked again
 * A parked message goes on when a person sets it to `held`: an order by the same ladder, anything else at once.
 */
export class HeldMessages {
  readonly #options: HeldMessagesOptions
  readonly #evidence = new Map<string, Evidence>()
  readonly #sentThrough = new Map<string, number>()
  #toldAt = 0

  constructor(options: HeldMessagesOptions) {
    this.#options = options
  }

  /** The sender of that generation may have sent it: only a later one proves anything. */
  sentThrough(inboxId: string, generation: number): void {
    this.#sentThrough.set(inboxId, generation)
    this.#evidence.delete(inboxId)
  }

  async climb(signal: AbortSignal): Promise<void> {
    const { mes, queue, ledger, sender } = this.#options
    const count = await ledger.query(
      `SELECT FROM bridge_inbox WHERE queue = $1 AND state = 'held' LIMIT 1`,
      [queue],
    )
    if (count.rowCount === 0) {
      this.#evidence.clear()
      this.#sentThrough.clear()
      return
    }
    // First the sender, then the rows: what an earlier process has settled before it let go of its sender is seen.
    const opened = await sender.open(signal)
    if (opened === undefined) return
    const rows = await this.#read()
    const found = await findInMes(
      mes,
      rows.flatMap((row) => (mustNotComeTwice(row) ? row.order_id : [])),
    )
    for (const row of rows) {
      if (signal.aborted) return
      if (!mustNotComeTwice(row)) {
        await this.#sendAgain(row, opened, 'given back by a person')
      } else if (found.has(row.order_id) || found.has(row.order_id.toLowerCase())) {
        await this.#settle(row, 'forwarded', 'found in MES')
      } else if (await this.#provedAbsent(row, opened)) {
        await this.#sendAgain(row, opened, 'sent again: proved absent')
      }
    }
    this.#tell(rows)
  }

  async #read(): Promise<HeldRow[]> {
    const { rows } = await this.#options.ledger.query<HeldRow>(
      `SELECT i.id, i.order_id, i.routing_key, i.body, i.properties, coalesce(b.ambiguous_until > clock_timestamp(), false) AS waiting,
         extract(epoch FROM clock_timestamp() - i.received_at)::float8 * 1000 AS age_ms
       FROM bridge_inbox i LEFT JOIN bridge b ON b.queue = i.queue
       WHERE i.queue = $1 AND i.state = 'held' ORDER BY i.id LIMIT ${batch}`,
      [this.#options.queue],
    )
    return rows
  }

  /** True in the round after the one that found the queue without it: this round's look at the MES is the second. */
  async #provedAbsent(row: HeldOrder, opened: OpenedSender): Promise<boolean> {
    const { broker, queue, settleMs } = this.#options
    if (row.waiting || opened.generation <= (this.#sentThrough.get(row.id) ?? 0)) return false
    const evidence = this.#evidence.get(row.id) ?? { since: performance.now(), queueEmpty: false }
    this.#evidence.set(row.id, evidence)
    if (evidence.queueEmpty) return true
    const arrived = evidence.since + settleMs
    if (performance.now() < arrived) return false
    evidence.queueEmpty = (await broker.mayHold(queue, row.order_id, arrived)) === 'no'
    return false
  }

  async #sendAgain(row: HeldRow, { sender, generation }: OpenedSender, why: string): Promise<void> {
    const { queue, log } = this.#options
    const outcome = await forward(sender, queue, {
      orderId: row.order_id ?? undefined,
      routingKey: row.routing_key,
      body: row.body,
      properties: propertiesFromJson(row.properties),
    })
    switch (outcome.result) {
      case 'taken':
        return this.#settle(row, 'forwarded', why)
      case 'never':
        log.error('message_parked', { queue, inboxId: row.id, reason: outcome.reason })
        return this.#settle(row, 'parked', outcome.reason)
      case 'unknown':
        return this.sentThrough(row.id, generation)
      case 'again':
        log.warn('forward_again', { queue, inboxId: row.id, reason: outcome.reason })
    }
  }

  async #settle(row: HeldRow, state: InboxState, reason: string): Promise<void> {
    const { ledger, queue, log } = this.#options
    await inTransaction(ledger, async (client) => {
      await settle(client, [{ id: row.id, state, reason }])
      if (state === 'forwarded' && mustNotComeTwice(row))
        await markDelivered(client, [row.order_id])
    })
    this.#evidence.delete(row.id)
    this.#sentThrough.delete(row.id)
    log.info('held_settled', { queue, orderId: row.order_id, as: state, reason })
  }

  #tell(rows: readonly HeldRow[]): void {
    const old = rows.filter((row) => row.age_ms > tellAfterMs)
    if (old.length === 0 || performance.now() - this.#toldAt < tellAfterMs) return
    this.#toldAt = performance.now()
    this.#options.log.warn('held_for_long', {
      queue: this.#options.queue,
      messages: old.length,
      oldestOrderId: old[0]!.order_id,
    })
  }
}

/** The MES does not deduplicate an order. Anything else is held only when a person gave it back after it was parked. */
function mustNotComeTwice(row: HeldRow): row is HeldOrder {
  return row.routing_key === submittedKey && row.order_id !== null
}
