import type { SpanNumbers } from '../runtime/tracing.ts'
import type { BreakerState } from './breaker.ts'
import type { SendOutcome } from './courier.ts'

/** A sign of life of a courier child to its supervisor, with what it has done since the last one. */
export interface CourierBeat {
  readonly type: 'beat'
  readonly sends: Readonly<Partial<Record<SendOutcome, number>>>
  readonly spans: SpanNumbers
  readonly breaker: BreakerState
  readonly rssBytes: number
}

/** Counts in a courier child. What is told is forgotten here: the supervisor outlives the child, and so do its sums. */
export class CourierTally {
  #sends: Partial<Record<SendOutcome, number>> = {}
  #told: SpanNumbers = { exported: 0, dropped: 0 }

  count(outcome: SendOutcome): void {
    this.#sends[outcome] = (this.#sends[outcome] ?? 0) + 1
  }

  beat(breaker: BreakerState, spans: SpanNumbers): CourierBeat {
    const sends = this.#sends
    const told = this.#told
    this.#sends = {}
    this.#told = spans
    return {
      type: 'beat',
      sends,
      spans: {
        exported: spans.exported - told.exported,
        dropped: spans.dropped - told.dropped,
      },
      breaker,
      rssBytes: process.memoryUsage.rss(),
    }
  }
}
