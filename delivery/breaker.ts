export type BreakerState = 'closed' | 'open'

interface BreakerSettings {
  readonly failuresToOpen: number
  readonly probeEveryMs: number
  readonly fullRate: number
}

/**
 * Keeps the courier from burning attempts while the sink is away.
 *
 *   closed --(n connect failures in a row)--> open --(a probe with one real order succeeds)--> closed, at a low rate
 *
 * After it closes, the number of orders in hand doubles with each success up to the full rate: a receiver that has just come
 * back is not met by everything that waited. Pure: it is told the time.
 */
export class Breaker {
  readonly #settings: BreakerSettings
  #failures = 0
  #state: BreakerState = 'closed'
  #nextProbe = 0
  #rate: number

  constructor(settings: BreakerSettings) {
    this.#settings = settings
    this.#rate = settings.fullRate
  }

  get state(): BreakerState {
    return this.#state
  }

  /** How many orders may be taken in hand at `now`: 1 is the probe of an open breaker. */
  allowance(now: number): number {
    if (this.#state === 'closed') return this.#rate
    return now >= this.#nextProbe ? 1 : 0
  }

  failed(now: number): void {
    this.#failures += 1
    if (this.#failures >= this.#settings.failuresToOpen) {
      this.#state = 'open'
      this.#nextProbe = now + this.#settings.probeEveryMs
    }
  }

  succeeded(): void {
    this.#failures = 0
    if (this.#state === 'open') {
      this.#state = 'closed'
      this.#rate = Math.min(16, this.#settings.fullRate)
    } else {
      this.#rate = Math.min(this.#settings.fullRate, this.#rate * 2)
    }
  }
}
