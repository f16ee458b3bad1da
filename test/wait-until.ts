import { setTimeout as delay } from 'node:timers/promises'

/** Waits for a condition, not for a time: returns as soon as `read` gives something; throws what was last seen at the deadline. */
export async function waitUntil<Value>(
  what: string,
  read: () => Promise<Value | undefined | false>,
  deadlineMs = 60_000,
): Promise<Value> {
  const deadline = performance.now() + deadlineMs
  let last: unknown
  for (;;) {
    try {
      const value = await read()
      if (value !== undefined && value !== false) return value
      last = value
    } catch (error) {
      last = error
    }
    if (performance.now() > deadline)
      throw new Error(`waited in vain for: ${what}; last: ${String(last)}`)
    await delay(50)
  }
}
