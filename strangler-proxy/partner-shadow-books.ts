import { randomUUID } from 'node:crypto'

import type { ShadowEndpoint } from '../contracts/partner-shadow.ts'
import { inOrder, type Service, service } from '../runtime/lifecycle.ts'
import type { Log } from '../runtime/log.ts'
import { pollLoop } from '../runtime/poll-loop.ts'
import type { Pool } from '../runtime/postgres.ts'
import type { ShadowDifference } from './partner-shadow-compare.ts'

/** What is counted: of a partner's calls of one kind. */
export interface Shadowed {
  readonly partner: string
  readonly endpoint: ShadowEndpoint
}

/** eligible = compared + dropped, once none is under way. */
export interface ShadowCounts {
  eligible: number
  compared: number
  differing: number
  dropped: number
}

interface DayCounts extends ShadowCounts {
  readonly day: string
  readonly partner: string
  readonly endpoint: ShadowEndpoint
}

interface KeptDifference extends Shadowed {
  readonly n: number
  readonly order: string | undefined
  readonly field: string
  readonly ours: string | undefined
  readonly theirs: string | undefined
}

const bookEveryMs = 500
/** Waiting for the database; what is beyond is counted and not told. */
const mostWaiting = 1000
const longestText = 200
/** Of one answer: a list of fifty orders may differ in all of them. */
const mostOfOne = 20

/**
 * Books what the shadow found into the intake's database, in batches and behind everything else. Counts are booked as totals of
 * this life of the proxy, and differences by their number: a batch whose answer was lost is booked again, and counts once.
 */
export class PartnerShadowBooks implements Service {
  readonly #pool: Pool
  readonly #life: Service
  readonly #proxy = randomUUID()
  readonly #days = new Map<string, DayCounts>()
  readonly #totals = new Map<ShadowEndpoint, ShadowCounts>()
  readonly #changed = new Set<string>()
  #differences: KeptDifference[] = []
  #told = 0

  constructor(pool: Pool, log: Log) {
    this.#pool = pool
    const booking = pollLoop({
      name: 'partner shadow',
      log,
      idleMs: () => bookEveryMs,
      work: () => this.#book(),
    })
    const last = service({
      start: () => Promise.resolve(),
      stop: async () => {
        await this.#book().catch((error: unknown) =>
          log.warn('partner_shadow_not_booked', { reason: String(error) }),
        )
        await pool.end()
      },
    })
    this.#life = inOrder([last, booking])
  }

  start(): Promise<void> {
    return this.#life.start()
  }

  stop(): Promise<void> {
    return this.#life.stop()
  }

  count(about: Shadowed, what: Partial<ShadowCounts>): void {
    const day = new Date().toISOString().slice(0, 10)
    const key = JSON.stringify([day, about.partner, about.endpoint])
    let ofDay = this.#days.get(key)
    if (ofDay === undefined) {
      ofDay = { day, ...about, ...none }
      this.#days.set(key, ofDay)
    }
    const total = this.#totals.get(about.endpoint) ?? { ...none }
    this.#totals.set(about.endpoint, total)
    for (const counts of [ofDay, total]) {
      for (const name of countNames) counts[name] += what[name] ?? 0
    }
    this.#changed.add(key)
  }

  differ(about: Shadowed, order: string | undefined, found: readonly ShadowDifference[]): void {
    for (const difference of found.slice(0, mostOfOne)) {
      if (this.#differences.length >= mostWaiting) return
      this.#told += 1
      this.#differences.push({
        ...about,
        n: this.#told,
        order: storable(difference.order ?? order),
        field: storable(difference.field) ?? '',
        ours: storable(difference.ours),
        theirs: storable(difference.theirs),
      })
    }
  }

  /** Of this life, over all partners. */
  numbers(): ReadonlyMap<ShadowEndpoint, Readonly<ShadowCounts>> {
    return this.#totals
  }

  async #book(): Promise<boolean> {
    if (this.#changed.size === 0) return false
    const keys = [...this.#changed]
    const differences = this.#differences.slice(0, 200)
    this.#changed.clear()
    try {
      await this.#pool.query({
        name: 'book-partner-shadow',
        text: 'SELECT book_partner_shadow($1, $2, $3)',
        values: [
          this.#proxy,
          JSON.stringify(keys.map((key) => this.#days.get(key))),
          JSON.stringify(differences),
        ],
      })
    } catch (error) {
      for (const key of keys) this.#changed.add(key)
      throw error
    }
    this.#differences = this.#differences.slice(differences.length)
    if (this.#differences.length > 0) this.#changed.add(keys[0]!)
    this.#forgetDaysBefore(keys)
    return this.#differences.length > 0
  }

  /** A day that is over is not counted any more, once it is booked. */
  #forgetDaysBefore(booked: readonly string[]): void {
    const today = new Date().toISOString().slice(0, 10)
    for (const key of booked) {
      if (!this.#changed.has(key) && (this.#days.get(key)?.day ?? today) < today)
        this.#days.delete(key)
    }
  }
}

const none: ShadowCounts = { eligible: 0, compared: 0, differing: 0, dropped: 0 }
const countNames = ['eligible', 'compared', 'differing', 'dropped'] as const

/** PostgreSQL has no NUL in a text, and no half of a pair. */
function storable(text: string | undefined): string | undefined {
  return text?.replaceAll('\0', '').slice(0, longestText).toWellFormed()
}
