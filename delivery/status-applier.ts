import { applySpan, logged } from '../contracts/order-trace.ts'
import { statusRank } from '../contracts/order.ts'
import { judgeStatuses } from '../contracts/status-rules.ts'
import type { Verdict } from '../contracts/status-rules.ts'
import { failpoint } from '../runtime/failpoint.ts'
import { inOrder, type Service, service } from '../runtime/lifecycle.ts'
import type { Log } from '../runtime/log.ts'
import { pollLoop } from '../runtime/poll-loop.ts'
import { inTransaction, isConnectionError, type Pool } from '../runtime/postgres.ts'
import { noTracing, type Tracing } from '../runtime/tracing.ts'
import type { DoorbellListener, Ring } from './doorbell.ts'
import { dueOrders, lockOpenStatuses, settleStatuses } from './status-inbox.ts'
import type { Applied, PendingStatuses, StatusTarget } from './status-target.ts'

interface ApplierOptions {
  readonly ledger: Pool
  readonly target: StatusTarget
  /** Undefined = there is no doorbell: the inbox is polled. */
  readonly listen: ((onRings: (rings: Ring[]) => Promise<void>) => DoorbellListener) | undefined
  readonly log: Log
  /** A status that nobody rang for, or whose ring was lost, is swept up after this long. */
  readonly quietMs: number
  /** False: this process may be behind the epoch, and takes up nothing. */
  readonly mayTake: () => boolean
  readonly tracing?: Tracing
  /** Told of every event that was judged, after the commit. `waiting` is told at each try. */
  onVerdict?(state: Verdict['state']): void
}

/** An event and what became of it. */
interface Settled extends Verdict {
  readonly id: number
  readonly order: PendingStatuses
}

const pollMs = 100
const sweepMs = 1000
const batchOrders = 500
const batchesInFlight = 2

interface Waiting {
  readonly promise: Promise<void>
  resolve(): void
  reject(error: unknown): void
}

/**
 * Status inbox -> the order's row in its own database. A ring says "look at this order"; the inbox says what there is to do, and
 * the rules what becomes of it (contracts/status-rules.ts). Per batch of orders:
 *
 *   1. their open events are locked in the ledger      2. the target locks, judges and writes their rows, and commits
 *   3. the events are settled in the ledger, and that commits
 *
 * A crash between 2 and 3 repeats both, and the rules make the repetition a no-op. One order that can't be applied is told apart
 * and holds up no other.
 */
export class StatusApplier implements Service {
  readonly #options: ApplierOptions
  readonly #life: Service
  readonly #waiting = new Map<string, Waiting>()
  readonly #inHand = new Set<string>()
  #running = 0
  #scheduled = false
  #idle: (() => void)[] = []

  constructor(options: ApplierOptions) {
    this.#options = options
    let listener: DoorbellListener | undefined
    let deaf = options.listen === undefined
    const sweep = pollLoop({
      name: 'status-sweep',
      log: options.log,
      idleMs: () => (deaf || !options.mayTake() ? pollMs : sweepMs),
      work: async () => {
        // Before the doorbell is looked at, which makes it heard: what rings now would be let go, and wait for the sweep.
        if (!options.mayTake()) return false
        if (listener !== undefined) deaf = !(await listener.healthy())
        const due = await dueOrders(options.ledger, deaf ? 0 : options.quietMs, batchOrders)
        await Promise.all(due.map((orderId) => this.apply(orderId)))
        return due.length === batchOrders
      },
    })
    const intake = service({
      start: () => {
        listener = options.listen?.(async (rings) => {
          if (!options.mayTake()) return
          await Promise.all(rings.map(({ orderId }) => this.apply(orderId)))
        })
        return Promise.resolve()
      },
      stop: async () => {
        await listener?.close()
        await this.#drained()
      },
    })
    this.#life = inOrder([intake, sweep])
  }

  start(): Promise<void> {
    return this.#life.start()
  }

  stop(): Promise<void> {
    return this.#life.stop()
  }

  /** Resolves when what was open of the order at the time of the call is settled, or waits with its reason. */
  apply(orderId: string): Promise<void> {
    const known = this.#waiting.get(orderId)
    if (known !== undefined) return known.promise
    const waiting = Promise.withResolvers<void>()
    this.#waiting.set(orderId, waiting)
    this.#schedule()
    return waiting.promise
  }

  #schedule(): void {
    if (this.#scheduled || this.#running >= batchesInFlight || this.#waiting.size === 0) return
    this.#scheduled = true
    // The rest of this turn of the event loop still joins the batch.
    setImmediate(() => {
      this.#scheduled = false
      void this.#runBatch()
    })
  }

  async #runBatch(): Promise<void> {
    const batch = new Map<string, Waiting>()
    for (const [orderId, waiting] of this.#waiting) {
      // One that is in hand comes again when it is free: its new event may not be among those that were locked.
      if (this.#inHand.has(orderId)) continue
      batch.set(orderId, waiting)
      if (batch.size === batchOrders) break
    }
    if (batch.size === 0) return
    for (const orderId of batch.keys()) {
      this.#waiting.delete(orderId)
      this.#inHand.add(orderId)
    }
    this.#running += 1
    this.#schedule()
    try {
      await this.#applyAll([...batch.keys()])
      for (const waiting of batch.values()) waiting.resolve()
    } catch (error) {
      for (const waiting of batch.values()) waiting.reject(error)
    } finally {
      for (const orderId of batch.keys()) this.#inHand.delete(orderId)
      this.#running -= 1
      this.#schedule()
      if (this.#running === 0 && this.#waiting.size === 0)
        for (const resolve of this.#idle.splice(0)) resolve()
    }
  }

  async #applyAll(orderIds: readonly string[]): Promise<void> {
    const { ledger, log } = this.#options
    const enteredAt = performance.now()
    const settled = await inTransaction(ledger, async (client) => {
      const pending = await lockOpenStatuses(client, orderIds)
      if (pending.length === 0) return []
      failpoint('applier.locked')
      const applied = await this.#toTarget(pending)
      failpoint('applier.written')
      const verdicts = pending.flatMap((order) => verdictsOf(order, applied.get(order.orderId)))
      await settleStatuses(client, verdicts)
      for (const { id, state, reason, order } of verdicts) {
        if (state === 'parked')
          log.error('status_parked', { ...logged(order), inboxId: id, reason })
      }
      failpoint('applier.settled')
      return verdicts
    })
    failpoint('applier.committed')
    for (const { state } of settled) this.#options.onVerdict?.(state)
    this.#trace(settled, enteredAt)
  }

  #trace(settled: readonly Settled[], enteredAt: number): void {
    const { tracing = noTracing } = this.#options
    if (!tracing.on) return
    const leftAt = performance.now()
    for (const { id, state, order } of settled) {
      // It is tried again, and its span is that of the last try.
      if (state === 'waiting') continue
      const status = order.events.find((event) => event.id === id)?.status ?? 'none'
      tracing.record({
        name: 'apply status',
        kind: 'consumer',
        ...applySpan(order, id),
        enteredAt,
        leftAt,
        attributes: {
          'strangler.order.id': order.orderId,
          // What is no status of ours may be anything.
          'strangler.status': statusRank(status) >= 0 ? status : 'other',
          'strangler.outcome': state,
        },
        failed: state === 'parked' ? state : undefined,
      })
    }
  }

  /** A target that refuses one order refuses the whole transaction: then each goes alone, and the one is told apart. */
  async #toTarget(pending: readonly PendingStatuses[]): Promise<ReadonlyMap<string, Applied>> {
    const { target } = this.#options
    try {
      return await target.apply(pending, judgeStatuses)
    } catch (error) {
      if (isConnectionError(error)) throw error
      if (pending.length === 1) {
        const reason = error instanceof Error ? error.message : String(error)
        return new Map([[pending[0]!.orderId, { as: 'refused', reason }]])
      }
    }
    const each = new Map<string, Applied>()
    for (const order of pending) {
      for (const [orderId, applied] of await this.#toTarget([order])) each.set(orderId, applied)
    }
    return each
  }

  #drained(): Promise<void> {
    if (this.#running === 0 && this.#waiting.size === 0) return Promise.resolve()
    return new Promise((resolve) => {
      this.#idle.push(resolve)
    })
  }
}

function verdictsOf(order: PendingStatuses, applied: Applied | undefined): Settled[] {
  if (applied?.as === 'judged')
    return [...applied.judged.verdicts].map(([id, verdict]) => ({ id, order, ...verdict }))
  const reason = reasonToWait(applied)
  return order.events.map(({ id }) => ({ id, order, state: 'waiting', reason }))
}

function reasonToWait(applied: Exclude<Applied, { as: 'judged' }> | undefined): string {
  if (applied?.as === 'refused') return `refused: ${applied.reason.slice(0, 200)}`
  if (applied?.as === 'repinned') return 'repinned'
  return applied?.as === 'busy' ? 'row_held' : 'not_in_shop'
}
