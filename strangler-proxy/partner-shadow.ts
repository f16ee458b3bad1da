import { setTimeout as pause } from 'node:timers/promises'

import type { ShadowOrder } from '../contracts/partner-shadow.ts'
import { inOrder, type Service, service } from '../runtime/lifecycle.ts'
import type { Log } from '../runtime/log.ts'
import type { Exchange, ExchangeWatch } from './exchange.ts'
import type { Outcome } from './failure.ts'
import type { PartnerRoutes, PartnerSide } from './partner-routes.ts'
import { PassingAnswer, type ShadowAnswer } from './partner-shadow-answer.ts'
import { NoAnswer, ShadowAsker } from './partner-shadow-ask.ts'
import type { PartnerShadowBooks, Shadowed } from './partner-shadow-books.ts'
import {
  compareOrderAnswers,
  compareReads,
  fieldsIn,
  type ShadowDifference,
  waitsForMes,
} from './partner-shadow-compare.ts'
import { PassingOrder } from './partner-shadow-order.ts'
import { Slots } from './slots.ts'

/*
 * The shadow of the partner API: what was answered is asked of the other side as well, and both answers are compared.
 *
 *   partner at the MES            POST /orders       the MES answered; the intake is asked in quarantine
 *   partner behind the intake     GET an order, list the intake answered; the MES is asked, and when they differ both once more
 *                                                    after `graceMs`: a status may be on its way
 *
 * Never in the way: it looks at what passes by, asks after the partner has its answer, over connections, places and times of its
 * own, and whatever it has no room for is dropped and counted. An answer 5xx is trouble, not a word, and nothing to compare; so
 * is what was cut short.
 */

export const droppedReasons = [
  'busy',
  'too_large',
  'not_seen',
  'unreachable',
  'failed',
  'stopped',
  'waiting',
] as const
export type DroppedReason = (typeof droppedReasons)[number]

export interface PartnerShadowOptions {
  /** How many of the calls, in ten-thousandths. */
  readonly share: number
  readonly intakeOrigin: string
  readonly mesOrigin: string
  readonly routes: Pick<PartnerRoutes, 'partnerOf'>
  readonly books: PartnerShadowBooks
  readonly timeoutMs: number
  readonly graceMs: number
  readonly log: Log
}

const atOnce = 4
const mostWaiting = 100
/** Orders that pass by at the same time. */
const mostPassing = 64

interface Comparison {
  compare(): Promise<{
    readonly order: string | undefined
    readonly differences: readonly ShadowDifference[]
  }>
  /** Asks both sides again. */
  readonly compareAgain?: () => Promise<readonly ShadowDifference[] | 'waiting'>
}

export class PartnerShadow implements Service {
  readonly #options: PartnerShadowOptions
  readonly #asker: ShadowAsker
  readonly #places = new Slots(atOnce, mostWaiting)
  readonly #stopping = new AbortController()
  readonly #underWay = new Set<Promise<void>>()
  readonly #droppedFor = new Map<DroppedReason, number>()
  readonly #life: Service
  #passing = 0
  #inGrace = 0
  #told: DroppedReason | undefined

  constructor(options: PartnerShadowOptions) {
    this.#options = options
    const { timeoutMs } = options
    this.#asker = new ShadowAsker({ atOnce, timeoutMs, stopping: this.#stopping.signal })
    const work = service({
      start: () => Promise.resolve(),
      stop: async () => {
        this.#stopping.abort()
        while (this.#underWay.size > 0) await Promise.all(this.#underWay)
      },
    })
    this.#life = inOrder([options.books, work])
  }

  start(): Promise<void> {
    return this.#life.start()
  }

  stop(): Promise<void> {
    return this.#life.stop()
  }

  numbers() {
    return {
      counts: this.#options.books.numbers(),
      droppedFor: this.#droppedFor,
      underWay: this.#underWay.size,
    }
  }

  /** undefined: it is not looked at. */
  watch(exchange: Exchange, side: PartnerSide, apiKey: string): ExchangeWatch | undefined {
    const { method } = exchange.request
    const { template } = exchange.route
    const isList = template === '/api/partner/v1/orders'
    const isOrder = template === '/api/partner/v1/orders/:id'
    const ordersAtMes = side === 'mes' && method === 'POST' && isList
    const readsAtIntake = side === 'intake' && method === 'GET' && (isList || isOrder)
    if (!ordersAtMes && !readsAtIntake) return undefined
    const { share, routes } = this.#options
    if (Math.random() * 10_000 >= share) return undefined
    const partner = routes.partnerOf(apiKey)
    if (partner === undefined) return undefined
    if (ordersAtMes) return this.#watchOrder(exchange, partner, apiKey)
    const endpoint = isOrder ? 'GET /orders/:id' : 'GET /orders'
    return this.#watchRead(exchange, { partner, endpoint }, apiKey)
  }

  #watchOrder(exchange: Exchange, partner: string, apiKey: string): ExchangeWatch {
    const about: Shadowed = { partner, endpoint: 'POST /orders' }
    const answer = new PassingAnswer()
    const order =
      this.#passing < mostPassing ? new PassingOrder(exchange.headers, apiKey) : undefined
    if (order !== undefined) this.#passing += 1
    return {
      requestBytes: (chunk) => order?.bytes(chunk),
      requestEnd: () => order?.end(),
      answerHead: (head) => answer.head(head),
      answerBytes: (chunk) => answer.bytes(chunk),
      over: (outcome) => {
        if (order !== undefined) this.#passing -= 1
        const seen = order?.finish()
        if (!isWord(outcome, answer)) return
        this.#begin(about, async () => {
          if (seen === undefined) return 'busy'
          const [record, answered] = [await seen, answer.finish()]
          if (record === undefined || answered === undefined) return 'too_large'
          return this.#orderComparison(record, answered)
        })
      },
    }
  }

  #watchRead(exchange: Exchange, about: Shadowed, apiKey: string): ExchangeWatch {
    const answer = new PassingAnswer()
    const { url = '' } = exchange.request
    return {
      answerHead: (head) => answer.head(head),
      answerBytes: (chunk) => answer.bytes(chunk),
      over: (outcome) => {
        // Who is refused for asking too often would not be at the MES: that is wanted.
        if (!isWord(outcome, answer) || answer.status === 429) return
        this.#begin(about, () => {
          const answered = answer.finish()
          return Promise.resolve(
            answered === undefined
              ? 'too_large'
              : this.#readComparison(answered, url, exchange.route.orderId, apiKey),
          )
        })
      },
    }
  }

  #orderComparison(record: ShadowOrder, answered: ShadowAnswer): Comparison {
    const field = (name: string): string => {
      const part = record.parts.findLast((each) => each.name === name)
      return Buffer.from(part?.value ?? '', 'base64').toString('utf8')
    }
    return {
      compare: async () => {
        const ours = await this.#asker.order(this.#options.intakeOrigin, record)
        const id = answered.status < 300 ? fieldsIn(answered.body)?.['id'] : undefined
        return {
          order: typeof id === 'string' ? id : field('external_id').trim() || undefined,
          differences: compareOrderAnswers(ours, answered, field('comment')),
        }
      },
    }
  }

  #readComparison(
    answered: ShadowAnswer,
    url: string,
    order: string | undefined,
    apiKey: string,
  ): Comparison {
    const { mesOrigin, intakeOrigin } = this.#options
    const ask = (origin: string) => this.#asker.read(origin, url, apiKey)
    return {
      compare: async () => ({
        order,
        differences: compareReads(answered, await ask(mesOrigin)),
      }),
      compareAgain: async () => {
        const [ours, theirs] = await Promise.all([ask(intakeOrigin), ask(mesOrigin)])
        return waitsForMes(ours, theirs) ? 'waiting' : compareReads(ours, theirs)
      },
    }
  }

  /** From here on it is eligible, and ends as compared or as dropped. */
  #begin(about: Shadowed, prepare: () => Promise<Comparison | DroppedReason>): void {
    this.#options.books.count(about, { eligible: 1 })
    const work = this.#carryOut(prepare).then(
      (result) => this.#end(about, result),
      (error: unknown) => this.#end(about, this.#reasonOf(error)),
    )
    this.#underWay.add(work)
    void work.finally(() => this.#underWay.delete(work))
  }

  async #carryOut(prepare: () => Promise<Comparison | DroppedReason>) {
    const prepared = await prepare()
    if (typeof prepared === 'string') return prepared
    const first = await this.#inPlace(() => prepared.compare())
    const { order } = first
    if (first.differences.length === 0 || prepared.compareAgain === undefined) return first
    if (this.#inGrace >= mostWaiting) return 'busy'
    this.#inGrace += 1
    try {
      await pause(this.#options.graceMs, undefined, { signal: this.#stopping.signal })
    } finally {
      this.#inGrace -= 1
    }
    const again = prepared.compareAgain
    const differences = await this.#inPlace(() => again())
    return differences === 'waiting' ? differences : { order, differences }
  }

  /** @throws Busy */
  async #inPlace<Result>(work: () => Promise<Result>): Promise<Result> {
    const begin = await new Promise<() => void>((resolve, reject) => {
      const begins = (): void => resolve(begins)
      if (!this.#places.enter(begins)) reject(new Busy())
    })
    try {
      return await work()
    } finally {
      this.#places.leave(begin)
    }
  }

  #end(about: Shadowed, result: DroppedReason | Awaited<ReturnType<Comparison['compare']>>): void {
    const { books, log } = this.#options
    if (typeof result === 'string') {
      books.count(about, { dropped: 1 })
      this.#droppedFor.set(result, (this.#droppedFor.get(result) ?? 0) + 1)
      // Once until something is compared again: what is away drops every call.
      if (this.#told !== result)
        log.warn('partner_shadow_dropped', { endpoint: about.endpoint, reason: result })
      this.#told = result
      return
    }
    const { order, differences } = result
    this.#told = undefined
    books.count(about, { compared: 1, differing: differences.length > 0 ? 1 : 0 })
    books.differ(about, order, differences)
  }

  #reasonOf(error: unknown): DroppedReason {
    if (this.#stopping.signal.aborted) return 'stopped'
    if (error instanceof Busy) return 'busy'
    if (error instanceof NoAnswer) return error.reason
    this.#options.log.error('partner_shadow_failed', {}, error)
    return 'failed'
  }
}

class Busy extends Error {
  override readonly name = 'Busy'
}

/** The side has said something of the request, and the partner has got all of it. */
function isWord(outcome: Outcome, answer: PassingAnswer): boolean {
  return outcome === 'passed' && answer.status >= 200 && answer.status < 500
}
