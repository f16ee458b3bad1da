import { setTimeout as delay } from 'node:timers/promises'

import { logged, messageSpan } from '../../contracts/order-trace.ts'
import type { Path } from '../../contracts/order.ts'
import { formatTraceparent } from '../../contracts/trace-context.ts'
import type { Ring } from '../../delivery/doorbell.ts'
import { storeStatuses } from '../../delivery/status-inbox.ts'
import { sharePins } from '../../delivery/status-pins.ts'
import { traceAccepted } from '../../delivery/trace-accepted.ts'
import { failpoint } from '../../runtime/failpoint.ts'
import type { Log } from '../../runtime/log.ts'
import { inTransaction } from '../../runtime/postgres.ts'
import type { Client, Pool } from '../../runtime/postgres.ts'
import { noTracing, type Tracing } from '../../runtime/tracing.ts'
import type { Consumer, Delivery } from '../broker/port.ts'
import {
  receive,
  receiveDiverted,
  sentBefore,
  settle,
  statusOf,
  storePartnerEvents,
} from './bridge-inbox.ts'
import type { InboxRow, Received, Settlement } from './bridge-inbox.ts'
import type { BridgeSender, OpenedSender } from './bridge-sender.ts'
import { decide } from './decide.ts'
import type { Decision } from './decide.ts'
import { forward } from './forward.ts'
import type { ForwardOutcome } from './forward.ts'
import type { HeldMessages } from './held-messages.ts'
import { createdKey, isMarker, isStatus, readDelivery, submittedKey } from './incoming.ts'
import type { Incoming } from './incoming.ts'
import { messageKey } from './message-key.ts'
import { spanOfMessage, traceMessage } from './message-trace.ts'
import { markDelivered, openBornInMes, pathsOfSubmitted } from './order-paths.ts'
import type { KnownOrder } from './order-paths.ts'
import { keysOfRedelivered } from './redelivered.ts'
import { pinStatusPaths, readStatusPaths } from './status-paths.ts'

/** Since the start of the process. */
export interface BridgeCounters {
  received: number
  forwarded: number
  suppressed: number
  diverted: number
  unreadable: number
  parked: number
  held: number
}

export interface BridgeWorkerOptions {
  readonly queue: string
  readonly ledger: Pool
  readonly shop: Pool
  readonly sender: BridgeSender
  readonly held: HeldMessages
  readonly counters: BridgeCounters
  readonly tracing?: Tracing
  /** Called with the orders whose statuses are in the inbox, after the commit. Not awaited: a ring is never a condition. */
  ring(orders: readonly Ring[]): void
  readonly log: Log
}

type StatusPaths = ReadonlyMap<string, KnownOrder<Path | null>>

interface Item {
  readonly incoming: Incoming
  readonly row: InboxRow
  readonly decision: Decision
  /** undefined: the ledger does not know it. */
  readonly order: KnownOrder<Path | null> | undefined
  /** performance.now() */
  readonly enteredAt: number
}

interface Settled {
  readonly item: Item
  readonly settlement: Settlement
}

const retryMs = 250

/**
 * What happens to a batch from our queue, numbered as in the README:
 *   1. its rows are committed to the inbox     2. every message is decided    3. what goes on is sent and confirmed
 *   4. the rows are settled, in one commit     5. and only then is it acknowledged
 * Each step is repeated until it succeeds; what a stop leaves undone stays unacknowledged and comes again.
 */
export class BridgeWorker {
  readonly #options: BridgeWorkerOptions
  readonly #signal: AbortSignal

  constructor(options: BridgeWorkerOptions, signal: AbortSignal) {
    this.#options = options
    this.#signal = signal
  }

  async handle(consumer: Consumer, deliveries: readonly Delivery[]): Promise<void> {
    const { ledger, queue } = this.#options
    const incoming = deliveries.map(readDelivery)
    const stored = await this.#persist(() => keysOfRedelivered(ledger, queue, incoming))
    if (stored === undefined) return
    const known = incoming.map((each) => ({ ...each, storedAs: stored.get(each) }))
    for (const batch of batchesOf(known)) {
      if (this.#signal.aborted) return
      await this.#handleBatch(consumer, batch)
    }
  }

  async #handleBatch(consumer: Consumer, batch: readonly Incoming[]): Promise<void> {
    const { ledger, queue, counters } = this.#options
    const enteredAt = performance.now()
    const paths = await this.#persist(() => this.#statusPathsOf(batch))
    if (paths === undefined) return
    failpoint('bridge.pinned')
    const others = await this.#divert(consumer, batch, paths, enteredAt)
    if (others === undefined || others.length === 0) return
    const received = await this.#persist(() => receive(ledger, queue, others))
    if (received === undefined) return
    const { rows } = received
    counters.received += rows.filter((row) => row.fresh).length
    failpoint('bridge.received')

    const items = await this.#persist(() => this.#decideAll(others, received, paths, enteredAt))
    if (items === undefined) return
    const onward = items.filter(({ decision }) => decision.act === 'forward')
    const rest = items.filter(({ decision }) => decision.act !== 'forward')
    if (!(await this.#finish(consumer, rest.map(withoutSending)))) return
    await this.#forwardAll(consumer, onward)
  }

  /** Of every order in the batch that the ledger knows and whose submit this is not: the path of its statuses, pinned now if need be. */
  async #statusPathsOf(batch: readonly Incoming[]): Promise<StatusPaths> {
    const { ledger } = this.#options
    const created = ofKind(batch, createdKey)
    // Before its statuses are looked at: they may be in the same batch.
    if (created.length > 0) await inTransaction(ledger, (client) => openBornInMes(client, created))
    const others = batch.filter(({ delivery }) => delivery.routingKey !== submittedKey)
    const known = await readStatusPaths(ledger, orderIdsOf(others))
    const undecided = orderIdsOf(batch.filter(isStatus)).filter(
      (id) => known.get(id)?.path === null,
    )
    if (undecided.length > 0) {
      for (const [id, path] of await pinStatusPaths(ledger, undecided))
        known.set(id, { ...known.get(id)!, path })
    }
    return known
  }

  /**
   * The statuses of direct orders that are here for the first time: nothing of them is sent, so all of 1 to 4 is one commit.
   * Returns what is left to be done; undefined when a stop came first.
   */
  async #divert(
    consumer: Consumer,
    batch: readonly Incoming[],
    paths: StatusPaths,
    enteredAt: number,
  ): Promise<readonly Incoming[] | undefined> {
    const { ledger, queue, counters, tracing = noTracing } = this.#options
    const orderOf = ({ message }: Incoming) => paths.get(message?.orderId ?? '')
    const direct = batch.filter(
      (incoming) => isStatus(incoming) && orderOf(incoming)?.path === 'direct',
    )
    if (direct.length === 0) return batch
    const ofPartners = [...new Set(direct.map(orderOf))].flatMap((order) =>
      order?.ofPartner === true ? [order.orderId] : [],
    )
    const ids = await this.#persist(() => receiveDiverted(ledger, queue, direct, ofPartners))
    if (ids === undefined) return undefined
    const diverted = direct.filter((_, index) => ids[index] !== undefined)
    if (diverted.length > 0) {
      counters.received += diverted.length
      counters.diverted += diverted.length
      failpoint('bridge.diverted')
      const passed = direct.map((incoming, index) => ({
        incoming,
        inboxId: ids[index],
        order: orderOf(incoming),
      }))
      this.#options.ring(this.#ringsOf(passed))
      for (const { inboxId, ...each } of passed) {
        if (inboxId !== undefined)
          traceMessage(tracing, { ...each, inboxId, queue, enteredAt, outcome: 'diverted' })
      }
      await consumer.ack(diverted.map(({ delivery }) => delivery))
    }
    const done = new Set(diverted)
    return batch.filter((incoming) => !done.has(incoming))
  }

  async #decideAll(
    batch: readonly Incoming[],
    { rows, ways }: Received,
    statusPaths: StatusPaths,
    enteredAt: number,
  ): Promise<Item[]> {
    const { ledger, shop, queue } = this.#options
    const open = batch.filter((_, index) => rows[index]?.state === 'received')
    const submitted = ofKind(open, submittedKey)
    const created = ofKind(open, createdKey)
    // Their own rows: what is only received says nothing about an earlier message.
    const rowIds = rows.filter((row) => row.state === 'received').map((row) => row.id)
    const [{ known: paths, accepted }, submittedBefore, createdBefore] = await Promise.all([
      pathsOfSubmitted(ledger, shop, submitted),
      sentBefore(ledger, queue, submittedKey, orderIdsOf(submitted), rowIds),
      sentBefore(ledger, queue, createdKey, orderIdsOf(created), rowIds),
    ])
    traceAccepted(this.#options.tracing, accepted, enteredAt)
    const seen = new Set<string>()
    return batch.map((incoming, index) => {
      const row = rows[index]!
      const orderId = incoming.message?.orderId ?? ''
      // The same message twice in one batch has one row.
      const order =
        (isStatus(incoming) ? undefined : paths.get(orderId)) ?? statusPaths.get(orderId)
      const item = { incoming, row, order, enteredAt }
      if (seen.has(row.id)) return { ...item, decision: { act: 'acknowledge' } }
      seen.add(row.id)
      const before = incoming.delivery.routingKey === createdKey ? createdBefore : submittedBefore
      const decision = decide(incoming, {
        row,
        path: (isStatus(incoming) ? ways : paths).get(orderId)?.path ?? undefined,
        behind: ways.get(orderId)?.behind === true,
        sentBefore: before.has(orderId),
        // A submit in the same batch has only just opened the row.
        inLedger: statusPaths.has(orderId) || paths.has(orderId),
      })
      const kind = incoming.delivery.routingKey
      const goesOn = decision.act === 'forward' || decision.act === 'hold'
      if (goesOn && (kind === submittedKey || kind === createdKey)) before.add(orderId)
      return { ...item, decision }
    })
  }

  /** In rounds of one message per order: what fails and goes again is never overtaken by the order's next message. */
  async #forwardAll(consumer: Consumer, items: readonly Item[]): Promise<void> {
    let pending = [...items]
    while (pending.length > 0) {
      const round = firstOfEachOrder(pending)
      const settled = await this.#send(round)
      if (settled.length > 0) failpoint('bridge.forwarded')
      if (!(await this.#finish(consumer, settled))) return
      const done = new Set(settled.map(({ item }) => item))
      pending = pending.filter((item) => !done.has(item))
      if (done.size === round.length) continue
      if (this.#signal.aborted) return
      await this.#pause()
    }
  }

  async #send(round: readonly Item[]): Promise<Settled[]> {
    const opened = await this.#options.sender.open(this.#signal)
    if (opened === undefined) return []
    const settled = await Promise.all(
      round.map(async (item) =>
        this.#settlementOf(item, opened, await this.#forward(item, opened)),
      ),
    )
    return settled.filter((each) => each !== undefined)
  }

  #forward(item: Item, { sender }: OpenedSender): Promise<ForwardOutcome> {
    const { queue, tracing = noTracing } = this.#options
    const { delivery, message } = item.incoming
    const { routingKey, body, properties } = delivery
    const traceparent =
      tracing.on && item.order !== undefined
        ? formatTraceparent(
            spanOfMessage(item.incoming, item.order, item.row.id, 'forwarded').context,
          )
        : undefined
    const orderId = message?.orderId
    return forward(sender, queue, { orderId, routingKey, body, properties, traceparent })
  }

  /** undefined: it goes again. */
  #settlementOf(item: Item, opened: OpenedSender, outcome: ForwardOutcome): Settled | undefined {
    const { queue, log, held } = this.#options
    const about = { queue, inboxId: item.row.id, ...(item.order && logged(item.order)) }
    if (outcome.result === 'taken') {
      const reason = item.decision.act === 'forward' ? item.decision.reason : undefined
      return settlement(item, 'forwarded', reason)
    }
    if (outcome.result === 'never') {
      log.error('message_parked', { ...about, reason: outcome.reason })
      return settlement(item, 'parked', outcome.reason)
    }
    const { delivery, message } = item.incoming
    const mustNotComeTwice = delivery.routingKey === submittedKey && message !== undefined
    if (outcome.result === 'unknown' && mustNotComeTwice) {
      // The MES does not deduplicate an order; everything else it may get twice, as from the broker itself.
      held.sentThrough(item.row.id, opened.generation)
      return settlement(item, 'held', 'the confirm was lost')
    }
    log.warn('forward_again', { ...about, reason: outcome.reason })
    return undefined
  }

  /** Settles in one commit, then acknowledges. False when a stop came first. */
  async #finish(consumer: Consumer, settled: readonly Settled[]): Promise<boolean> {
    if (settled.length === 0) return true
    const { ledger } = this.#options
    const open = settled.filter(({ item }) => item.decision.act !== 'acknowledge')
    const taken = open.filter(({ settlement: { state } }) => state === 'forwarded')
    const done = await this.#persist(async () => {
      if (open.length === 0) return []
      return inTransaction(ledger, async (client) => {
        const settling = await asPinned(client, open)
        await settle(
          client,
          settling.map((each) => each.settlement),
        )
        const went = taken.map(({ item }) => item.incoming)
        await markDelivered(client, orderIdsOf(ofKind(went, submittedKey)))
        await storeStatuses(
          client,
          divertedOf(settling).map(({ item }) => ({ id: item.row.id, ...statusOf(item.incoming) })),
        )
        await storePartnerEvents(
          client,
          settling.flatMap(({ item: { order, row } }) =>
            order?.ofPartner === true ? [{ id: row.id, orderId: order.orderId }] : [],
          ),
        )
        failpoint('bridge.settling')
        return settling
      })
    })
    if (done === undefined) return false
    this.#count(done)
    failpoint('bridge.settled')
    this.#options.ring(
      this.#ringsOf(
        divertedOf(done).map(({ item: { incoming, order, row } }) => ({
          incoming,
          order,
          inboxId: row.id,
        })),
      ),
    )
    await consumer.ack(settled.map(({ item }) => item.incoming.delivery))
    return true
  }

  #count(settled: readonly Settled[]): void {
    const { counters, queue, log, tracing = noTracing } = this.#options
    for (const {
      item,
      settlement: { id, state, reason },
    } of settled) {
      if (isMarker(item.incoming)) continue
      if (state !== 'received') counters[state] += 1
      traceMessage(tracing, { ...item, inboxId: id, queue, outcome: state })
      if (reason !== 'unreadable') continue
      counters.unreadable += 1
      log.error('message_unreadable', { queue, inboxId: id })
    }
  }

  /** One for each order, named by its last event. */
  #ringsOf(
    diverted: readonly (Pick<Item, 'incoming' | 'order'> & {
      readonly inboxId: string | undefined
    })[],
  ): Ring[] {
    const { tracing = noTracing } = this.#options
    const rings = new Map<string, Ring>()
    for (const { incoming, order, inboxId } of diverted) {
      if (incoming.message === undefined || inboxId === undefined) continue
      const { orderId } = incoming.message
      const traceparent =
        tracing.on && order !== undefined
          ? { traceparent: formatTraceparent(messageSpan(order, inboxId).context) }
          : {}
      rings.set(orderId, { orderId, gen: Number(inboxId), ...traceparent })
    }
    return [...rings.values()]
  }

  /** Repeats a step on our databases until it succeeds; undefined when a stop came first. */
  async #persist<Result>(step: () => Promise<Result>): Promise<Result | undefined> {
    for (;;) {
      try {
        return await step()
      } catch (error) {
        this.#options.log.warn('bridge_waits', {
          queue: this.#options.queue,
          reason: String(error),
        })
        if (this.#signal.aborted) return undefined
        await this.#pause()
      }
    }
  }

  async #pause(): Promise<void> {
    await delay(retryMs, undefined, { signal: this.#signal }).catch(() => undefined)
  }
}

/** Messages that carry nothing to know them by go alone: their key follows on the one before. */
function batchesOf(incoming: readonly Incoming[]): Incoming[][] {
  const batches: Incoming[][] = []
  let open: Incoming[] | undefined
  for (const each of incoming) {
    if (messageKey(each.delivery, each.message) === undefined) {
      batches.push([each])
      open = undefined
      continue
    }
    if (open === undefined) batches.push((open = []))
    open.push(each)
  }
  return batches
}

function firstOfEachOrder(items: readonly Item[]): Item[] {
  const seen = new Set<string>()
  return items.filter(({ incoming }) => {
    const orderId = incoming.message?.orderId
    if (orderId === undefined) return true
    if (seen.has(orderId)) return false
    seen.add(orderId)
    return true
  })
}

function ofKind(incoming: readonly Incoming[], routingKey: string): Incoming[] {
  return incoming.filter(
    ({ delivery, message }) => message !== undefined && delivery.routingKey === routingKey,
  )
}

function orderIdsOf(incoming: readonly Incoming[]): string[] {
  return [...new Set(incoming.flatMap(({ message }) => message?.orderId ?? []))]
}

function divertedOf(settled: readonly Settled[]): Settled[] {
  return settled.filter(({ settlement: { state } }) => state === 'diverted')
}

/** What was to be diverted, of orders that have been repinned since it was decided, is held: CRM gets it in its turn. */
async function asPinned(client: Client, settled: readonly Settled[]): Promise<readonly Settled[]> {
  const orderIds = orderIdsOf(divertedOf(settled).map(({ item }) => item.incoming))
  if (orderIds.length === 0) return settled
  await sharePins(client)
  const pins = await readStatusPaths(client, orderIds)
  return settled.map((each) => {
    const { item, settlement: of } = each
    const path = pins.get(item.incoming.message?.orderId ?? '')?.path
    return of.state === 'diverted' && path !== 'direct'
      ? settlement(item, 'held', 'behind an earlier status')
      : each
  })
}

function withoutSending(item: Item): Settled {
  const { decision, row } = item
  if (decision.act === 'divert') return settlement(item, 'diverted', undefined)
  if (decision.act === 'suppress') return settlement(item, 'suppressed', decision.reason)
  if (decision.act === 'hold') return settlement(item, 'held', decision.reason)
  return settlement(item, row.state, undefined)
}

function settlement(item: Item, state: Settlement['state'], reason: string | undefined): Settled {
  return { item, settlement: { id: item.row.id, state, reason } }
}
