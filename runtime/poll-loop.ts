import { setTimeout as delay } from 'node:timers/promises'

import { type Service, service } from './lifecycle.ts'
import type { Log } from './log.ts'

interface PollLoop {
  readonly name: string
  /** One round; `true` when there may be more to do at once. */
  work(): Promise<boolean>
  /** Milliseconds between rounds that found nothing. */
  idleMs(): number
  readonly log: Log
}

/** Repeats `work` until stopped. A failing round is logged and tried again with growing pauses: the loop itself never ends. */
export function pollLoop(loop: PollLoop): Service {
  let stopping = new AbortController()
  let rounds: Promise<void> = Promise.resolve()

  const run = async (stop: AbortSignal): Promise<void> => {
    let failures = 0
    while (!stop.aborted) {
      let pauseMs: number
      try {
        pauseMs = (await loop.work()) ? 0 : loop.idleMs()
        failures = 0
      } catch (error) {
        failures += 1
        pauseMs = Math.min(2000, 50 * 2 ** failures)
        const reason = error instanceof Error ? error.message : String(error)
        loop.log.warn('round_failed', { loop: loop.name, failures, reason })
      }
      // The only rejection is our own stop.
      if (pauseMs > 0) await delay(pauseMs, undefined, { signal: stop }).catch(() => undefined)
    }
  }

  return service({
    start() {
      stopping = new AbortController()
      rounds = run(stopping.signal)
      return Promise.resolve()
    },
    async stop() {
      stopping.abort()
      await rounds
    },
  })
}
