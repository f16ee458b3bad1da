import { setTimeout as delay } from 'node:timers/promises'

import { createLog } from '../runtime/log.ts'
import { createPool, type Pool } from '../runtime/postgres.ts'

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

/**
 * The same for what stands in databases, each looked at through one connection that is kept: a new one for every look costs more
 * processor time than what it asks. One that breaks is replaced.
 */
export async function waitUntilIn<Value>(
  urls: readonly string[],
  what: string,
  read: (...databases: Pool[]) => Promise<Value | undefined | false>,
  deadlineMs?: number,
): Promise<Value> {
  const log = createLog('test')
  const pools = urls.map((url) => createPool(url, { name: 'test', max: 1, log }))
  try {
    return await waitUntil(what, () => read(...pools), deadlineMs)
  } finally {
    await Promise.all(pools.map((pool) => pool.end()))
  }
}
