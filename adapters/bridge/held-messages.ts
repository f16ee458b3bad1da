import { deliverySpan, logged } from '../../contracts/order-trace.ts'
import { formatTraceparent } from '../../contracts/trace-context.ts'
import { repinPhase } from '../../delivery/repin-statuses.ts'
import type { Log } from '../../runtime/log.ts'
import { inTransaction } from '../../runtime/postgres.ts'
import type { Pool } from '../../runtime/postgres.ts'
import { noTracing, type Tracing } from '../../runtime/tracing.ts'
import type { Broker } from '../broker/port.ts'
import { eventsToCrm } from '../wire/legacy-topology.ts'
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
  /** Why it is held. */
  because: string | null
  gen: number | null
  traceparent: string | null
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
  readonly tracing?: Tracing
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
    while (await this.#round(signal));
  }

  /** True when there may be more to send at once. */
  async #round(signal: AbortSignal): Promise<boolean> {
    const { mes, queue, ledger, sender } = this.#options
    const count = await ledger.query(
      `SELECT FROM bridge_inbox WHERE queue = $1 AND state = 'held' LIMIT 1`,
      [queue],
    )
    if (count.rowCount === 0) {
      this.#evidence.clear()
      this.#sentThrough.clear()
      return false
    }
    // First the sender, then the rows: what an earlier process has settled before it let go of its sender is seen.
    const opened = await sender.open(signal)
    if (opened === undefined) return false
    const rows = await this.#read()
    const found = await findInMes(
      mes,
      rows.flatMap((row) => (mustNotComeTwice(row) ? row.order_id : [])),
    )
    const others = Map.groupBy(
      rows.filter((row) => !mustNotComeTwice(row)),
      (row) => row.order_id ?? row.id,
    )
    // All of them are over before anything is thrown: what goes on unwatched would meet the next round.
    const sent = await Promise.allSettled(
      [...others.values()].map((ofOrder) => this.#sendInOrder(ofOrder, opened, signal)),
    )
    for (const each of sent) if (each.status === 'rejected') throw each.reason
    for (const row of rows.filter(mustNotComeTwice)) {
      if (signal.aborted) return false
      if (found.has(row.order_id) || found.has(row.order_id.toLowerCase())) {
        await this.#settle(row, 'forwarded', 'found in MES')
      } else if (await this.#provedAbsent(row, opened)) {
        await this.#sendAgain(row, opened, 'sent again: proved absent')
      }
    }
    this.#tell(rows)
    return rows.length === batch && sent.some(isGone) && !signal.aborted
  }

  /** What has not gone keeps back what came after it. False: nothing has gone. */
  async #sendInOrder(
    rows: readonly HeldRow[],
    opened: OpenedSender,
    signal: AbortSignal,
  ): Promise<boolean> {
    let any = false
    for (const row of rows) {
      if (signal.aborted) return any
      if (!(await this.#sendAgain(row, opened, row.because ?? 'given back by a person'))) return any
      any = true
    }
    return any
  }

  async #read(): Promise<HeldRow[]> {
    const { rows } = await this.#options.ledger.query<HeldRow>(
      `SELECT i.id, i.order_id, i.routing_key, i.body, i.properties, i.reason AS because, coalesce(b.ambiguous_until > clock_timestamp(), false) AS waiting,
         extract(epoch FROM clock_timestamp() - i.received_at)::float8 * 1000 AS age_ms,
         l.gen, l.traceparent
       FROM bridge_inbox i LEFT JOIN bridge b ON b.queue = i.queue LEFT JOIN LATERAL (
         SELECT o.gen, o.traceparent FROM order_ledger o WHERE o.order_id = i.order_id OFFSET 0) l ON true
       WHERE i.queue = $1 AND i.state = 'held' AND NOT EXISTS (
         -- CRM could not write it: the Shop DB still keeps it off.
         SELECT FROM handover h WHERE h.order_id = i.order_id AND h.finished_at IS NULL AND h.phase = '${repinPhase}' AND i.queue = $2)
       ORDER BY i.id LIMIT ${batch}`,
      [this.#options.queue, eventsToCrm.queue],
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

  /** True when it is settled. */
  async #sendAgain(
    row: HeldRow,
    { sender, generation }: OpenedSender,
    why: string,
  ): Promise<boolean> {
    const { queue, log, tracing = noTracing } = this.#options
    const enteredAt = performance.now()
    const span =
      tracing.on && mustNotComeTwice(row)
        ? deliverySpan({ orderId: row.order_id, gen: row.gen ?? 0, traceparent: row.traceparent })
        : undefined
    const outcome = await forward(sender, queue, {
      orderId: row.order_id ?? undefined,
      routingKey: row.routing_key,
      body: row.body,
      properties: propertiesFromJson(row.properties),
      traceparent: span && formatTraceparent(span.context),
    })
    if (span !== undefined && outcome.result === 'taken') {
      tracing.record({
        name: 'deliver held order',
        kind: 'producer',
        ...span,
        enteredAt,
        leftAt: performance.now(),
        attributes: { 'strangler.order.id': row.order_id ?? '', 'strangler.outcome': 'forwarded' },
      })
    }
    switch (outcome.result) {
      case 'taken':
        await this.#settle(row, 'forwarded', why)
        return true
      case 'never':
        log.error('message_parked', { ...about(queue, row), reason: outcome.reason })
        await this.#settle(row, 'parked', outcome.reason)
        return true
      case 'unknown':
        this.sentThrough(row.id, generation)
        return false
      case 'again':
        log.warn('forward_again', { ...about(queue, row), reason: outcome.reason })
        return false
      default:
        return outcome satisfies never
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
    log.info('held_settled', { ...about(queue, row), as: state, reason })
  }

  #tell(rows: readonly HeldRow[]): void {
    const old = rows.filter((row) => row.age_ms > tellAfterMs)
    if (old.length === 0 || performance.now() - this.#toldAt < tellAfterMs) return
    this.#toldAt = performance.now()
    this.#options.log.warn('held_for_long', {
      queue: this.#options.queue,
      messages: old.length,
      ...about(this.#options.queue, old[0]!),
    })
  }
}

function isGone(each: PromiseSettledResult<boolean>): boolean {
  return each.status === 'fulfilled' && each.value
}

/** The MES does not deduplicate an order. Anything else is held only when a person gave it back after it was parked. */
function mustNotComeTwice(row: HeldRow): row is HeldOrder {
  return row.routing_key === submittedKey && row.order_id !== null
}

function about(queue: string, row: HeldRow): Record<string, string> {
  const { id: inboxId, order_id: orderId, traceparent } = row
  return { queue, inboxId, ...(orderId !== null && logged({ orderId, traceparent })) }
}
