import { setTimeout as delay } from 'node:timers/promises'

const first = 50
const longest = 2000

/** Doubling pauses between attempts; a pause ends early, without an error, when the signal fires. */
export class BackOff {
  #next = first

  reset(): void {
    this.#next = first
  }

  async pause(signal: AbortSignal): Promise<void> {
    const pause = this.#next
    this.#next = Math.min(longest, pause * 2)
    await interruptibleDelay(pause, signal)
  }
}

async function interruptibleDelay(milliseconds: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  try {
    await delay(milliseconds, undefined, { signal })
  } catch (error) {
    if (!signal.aborted) throw error
  }
}
