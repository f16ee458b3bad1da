import { setTimeout as delay } from 'node:timers/promises'

import { asStranglerError, type StranglerError } from '../contracts/errors.ts'
import { deliverySpan, logged } from '../contracts/order-trace.ts'
import { parseTraceparent } from '../contracts/trace-context.ts'
import { failpoint } from '../runtime/failpoint.ts'
import { inOrder, type Service, service } from '../runtime/lifecycle.ts'
import type { Log } from '../runtime/log.ts'
import { pollLoop } from '../runtime/poll-loop.ts'
import { noTracing, type Tracing } from '../runtime/tracing.ts'
import { Breaker } from './breaker.ts'
import type { DoorbellListener, Ring } from './doorbell.ts'
import type { ClaimedOrder, LedgerClaims } from './ledger-claims.ts'
import type { Sink, SinkConnection } from './sink.ts'

/** What became of one send. */
export const sendOutcomes = ['delivered', 'not_taken', 'unroutable', 'in_doubt', 'dead'] as const
export type SendOutcome = (typeof sendOutcomes)[number]

interface CourierOptions {
  readonly ownerId: number
  readonly claims: LedgerClaims
  readonly sink: Sink
  /** Undefined = there is no doorbell: the ledger is polled. */
  readonly listen: ((onRings: (rings: Ring[]) => Promise<void>) => DoorbellListener) | undefined
  readonly log: Log
  /** An order that nobody rang for, or whose ring was lost, is swept up after this long. */
  readonly quietMs: number
  readonly maxInHand: number
  /** False: this process may be behind the epoch, and takes up nothing. */
  readonly mayTake: () => boolean
  readonly probeEveryMs: number
  readonly tracing?: Tracing
  onSent?(outcome: SendOutcome): void
}

// Without a doorbell the ledger is asked this often; with one the sweep only finds what a lost ring left behind.
const pollMs = 250
const sweepMs = 1000
const sweepRows = 200

/**
 * Carries orders from the ledger into the sink. Per order:
 *
 *   accepted -> sending (claimed, committed) -> the sink takes it -> delivered (marked in groups)
 *                                            -> known not taken   -> accepted, later again
 *                                            -> refused for good  -> dead
 *                                            -> nobody knows      -> in_doubt: the ladder decides, never a second send
 *
 * A ring says "look at this order"; whether there is anything to do, the claim decides. Losing every ring only means that the
 * sweep finds the orders instead.
 */
export class Courier implements Service {
  readonly #options: CourierOptions
  readonly #breaker: Breaker
  readonly #life: Service
  #connection: SinkConnection | undefined
  #connecting: Promise<SinkConnection> | undefined
  #connections = 0
  #inHand = 0
  #rungAt = Number.NEGATIVE_INFINITY
  #stopping = false
  #listener: DoorbellListener | undefined
  #paused = false
  #finished: (() => void)[] = []

  constructor(options: CourierOptions) {
    this.#options = options
    this.#breaker = new Breaker({
      failuresToOpen: 3,
      probeEveryMs: options.probeEveryMs,
      fullRate: options.maxInHand,
    })
    let deaf = options.listen === undefined
    const sweep = pollLoop({
      name: 'courier-sweep',
      log: options.log,
      idleMs: () =>
        deaf || this.#breaker.state === 'open' || !options.mayTake() ? pollMs : sweepMs,
      work: async () => {
        // Before the doorbell is looked at, which makes it heard: what rings now would be let go, and wait for the sweep.
        if (!options.mayTake()) return false
        if (this.#listener !== undefined) deaf = !(await this.#listener.healthy())
        const lost = await options.claims.letGoOfUnknown()
        if (lost > 0) options.log.warn('claims_without_answer', { orders: lost })
        const taken = await this.#sweep(
          deaf || this.#breaker.state === 'open' ? 0 : options.quietMs,
        )
        // While rings come in, what waits is in their line; sweeping it up as well would only do the work twice.
        return taken >= sweepRows && performance.now() - this.#rungAt > sweepMs
      },
    })
    const intake = service({
      start: () => {
        this.#listener = options.listen?.((rings) => this.#onRings(rings))
        return Promise.resolve()
      },
      stop: async () => {
        this.#stopping = true
        await this.#listener?.close()
        await this.#nothingInHand()
        await this.#connection?.close()
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

  get breaker(): 'closed' | 'open' {
    return this.#breaker.state
  }

  async #onRings(rings: Ring[]): Promise<void> {
    // While the breaker is open the rings are let go: the orders stay `accepted`, and the sweep is the probe.
    if (this.#stopping || this.#breaker.state === 'open' || !this.#options.mayTake()) return
    this.#rungAt = performance.now()
    const connection = await this.#connect()
    if (connection === undefined) return
    await Promise.all(
      rings.map(async (ring) => {
        await this.#room()
        if (this.#stopping || !connection.alive) return
        await this.#inHandFor(1, async () => {
          const order = await this.#options.claims.claim(ring, connection.name)
          if (order !== undefined) await this.#deliver(order, connection, ring.traceparent)
        })
      }),
    )
  }

  async #sweep(quietMs: number): Promise<number> {
    const room = Math.min(sweepRows, this.#breaker.allowance(performance.now()) - this.#inHand)
    if (this.#stopping || room <= 0 || !this.#options.mayTake()) return 0
    // An open breaker probes with one real order, so the connection comes first: no claim, no attempt burnt.
    const connection = await this.#connect()
    if (connection === undefined) return 0
    return this.#inHandFor(room, async () => {
      const orders = await this.#options.claims.claimQuiet(room, quietMs, connection.name)
      await Promise.all(orders.map((order) => this.#deliver(order, connection)))
      return orders.length
    })
  }

  /** Counts orders as in hand from before their claim, so that what is allowed is never exceeded. */
  async #inHandFor<Result>(count: number, work: () => Promise<Result>): Promise<Result> {
    this.#inHand += count
    try {
      return await work()
    } finally {
      this.#inHand -= count
      for (const resolve of this.#finished.splice(0)) resolve()
    }
  }

  async #connect(): Promise<SinkConnection | undefined> {
    if (this.#connection?.alive === true) return this.#connection
    this.#connecting ??= this.#options.sink
      .connect(`courier.${this.#options.ownerId}.${++this.#connections}`)
      .finally(() => {
        this.#connecting = undefined
      })
    try {
      this.#connection = await this.#connecting
      return this.#connection
    } catch (error) {
      await this.#unreachable(asStranglerError(error, 'broker_unreachable'))
      return undefined
    }
  }

  /** @param rungBy the trace context that came with the ring */
  async #deliver(order: ClaimedOrder, connection: SinkConnection, rungBy?: string): Promise<void> {
    const enteredAt = performance.now()
    const outcome = await this.#send(order, connection)
    const { tracing = noTracing } = this.#options
    this.#options.onSent?.(outcome)
    if (!tracing.on) return
    const { context, parentSpanId } = deliverySpan(order)
    const ring = parseTraceparent(rungBy)
    tracing.record({
      name: 'deliver order',
      kind: 'producer',
      context,
      parentSpanId: ring?.traceId === context.traceId ? ring.spanId : parentSpanId,
      enteredAt,
      leftAt: performance.now(),
      attributes: {
        'strangler.order.id': order.orderId,
        'strangler.gen': order.gen,
        'strangler.outcome': outcome,
      },
      failed: outcome === 'delivered' ? undefined : outcome,
    })
  }

  async #send(order: ClaimedOrder, connection: SinkConnection): Promise<SendOutcome> {
    try {
      const sent = connection.send(order)
      failpoint('courier.sent')
      await sent
      failpoint('courier.confirmed')
      this.#reached()
      const marked = await this.#settled(() => this.#options.claims.delivered(order))
      if (!marked) this.#options.log.error('delivered_but_not_ours', logged(order))
      failpoint('courier.marked')
      return 'delivered'
    } catch (error) {
      return this.#notDelivered(order, asStranglerError(error, 'confirm_unknown'))
    }
  }

  /**
   * Repeats a settlement until it commits. Nobody else may touch a row that we hold while we live; and when the ledger stays
   * away, the life lock drops with it and ends this process.
   */
  async #settled<Result>(settle: () => Promise<Result>): Promise<Result> {
    for (let tries = 0; ; tries += 1) {
      try {
        return await settle()
      } catch (error) {
        this.#options.log.warn('settlement_failed', {
          tries,
          reason: error instanceof Error ? error.message : String(error),
        })
        await delay(Math.min(1000, 50 * 2 ** tries))
      }
    }
  }

  async #notDelivered(order: ClaimedOrder, error: StranglerError): Promise<SendOutcome> {
    const { claims, log } = this.#options
    log.warn('order_not_delivered', {
      ...logged(order),
      code: error.code,
      reason: error.detail,
    })
    switch (error.code) {
      case 'confirm_unknown':
        await this.#settled(() => claims.inDoubt([order]))
        return 'in_doubt'
      case 'message_refused':
        await this.#settled(() => claims.dead(order, { code: error.code, detail: error.detail }))
        return 'dead'
      case 'broker_unreachable':
        await this.#settled(() => claims.notTaken([order], 250))
        await this.#unreachable(error)
        return 'not_taken'
      case 'message_unroutable':
        log.error('sink_unroutable', { ...logged(order), reason: error.detail })
        await this.#settled(() => claims.notTaken([order], 5000))
        return 'unroutable'
      default:
        await this.#settled(() =>
          error.resendSafe ? claims.notTaken([order], 1000) : claims.inDoubt([order]),
        )
        return error.resendSafe ? 'not_taken' : 'in_doubt'
    }
  }

  async #unreachable(error: StranglerError): Promise<void> {
    const was = this.#breaker.state
    this.#breaker.failed(performance.now())
    if (was === 'closed' && this.#breaker.state === 'open') {
      this.#options.log.warn('breaker_open', { reason: error.detail })
      this.#paused = true
      await this.#listener?.pause()
    }
  }

  #reached(): void {
    this.#breaker.succeeded()
    if (this.#paused) {
      this.#paused = false
      this.#options.log.info('breaker_closed')
      this.#listener?.resume()
    }
  }

  /** Waits until one more order may be taken in hand. */
  async #room(): Promise<void> {
    while (
      !this.#stopping &&
      this.#inHand >= this.#breaker.allowance(performance.now()) &&
      this.#inHand > 0
    )
      await this.#oneFinished()
  }

  async #nothingInHand(): Promise<void> {
    while (this.#inHand > 0) await this.#oneFinished()
  }

  #oneFinished(): Promise<void> {
    return new Promise((resolve) => {
      this.#finished.push(resolve)
    })
  }
}
