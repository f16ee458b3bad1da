import { setTimeout as delay } from 'node:timers/promises'

const first = 100
const last = 3000

/** Waits between attempts to reach a broker that is away: short at first, never longer than a few seconds, with jitter. */
export class BackOff {
  #next = first

  reset(): void {
    this.#next = first
  }

  /** Returns early when the signal aborts. */
  async pause(signal: AbortSignal): Promise<void> {
    const wait = this.#next * (0.75 + Math.random() / 2)
    this.#next = Math.min(this.#next * 2, last)
    await delay(wait, undefined, { signal }).catch(() => undefined)
  }
}
