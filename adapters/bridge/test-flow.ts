import { setTimeout as delay } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'

import type { Message } from '../broker/port.ts'

/** What the MES says of an order. Each event has a number of its own, and with it a time of its own. */
export function mesEvent(orderId: string, status: string, n: number): Message {
  const occurredAt = new Date(Date.UTC(2026, 0, 1) + n).toISOString()
  return {
    exchange: 'mes.events',
    routingKey: 'order.status_changed',
    body: Buffer.from(JSON.stringify({ orderId, source: 'shop', status, occurredAt, n })),
    properties: { contentType: 'application/json', headers: { 'x-sender': 'mes' } },
  }
}

/** Where the thread's counters stand in the memory that it shares with the test. */
export const slot = { published: 0, confirmed: 1, blocked: 2, stopping: 3 } as const

export interface FlowWishes {
  readonly url: string
  /** In turn, again and again. */
  readonly orderIds: readonly string[]
  readonly firstNumber: number
  readonly perSecond: number
  readonly counters: Int32Array<SharedArrayBuffer>
}

export interface Flow {
  /** All of these throw what ended the thread, if something did: a refusal, or the loss of the broker. */
  confirmed(): number
  /** The broker has told it so. */
  blocked(): boolean
  /** Resolves when so many more are confirmed. */
  goOn(more: number): Promise<void>
  /** Returns what tells, when asked, how many a second have been confirmed since this call. */
  rateFromNow(): () => number
  /** Resolves when everything that was published is confirmed, with how many that are. */
  stop(): Promise<number>
}

/**
 * Publishes at the given rate, as far as the broker confirms it, until told to stop. On a thread of its own: what the test
 * does meanwhile takes nothing away from it.
 */
export function startFlow(wishes: Omit<FlowWishes, 'counters'>): Flow {
  const counters = new Int32Array(new SharedArrayBuffer(4 * Int32Array.BYTES_PER_ELEMENT))
  const thread = new Worker(new URL('test-flow-thread.ts', import.meta.url), {
    workerData: { ...wishes, counters } satisfies FlowWishes,
  })
  let failure: Error | undefined
  thread.on('error', (error) => {
    failure = error instanceof Error ? error : new Error(String(error))
  })
  const ended = new Promise<void>((resolve) => {
    thread.once('exit', () => resolve())
  })
  const read = (at: number): number => {
    if (failure !== undefined) throw failure
    return Atomics.load(counters, at)
  }
  const confirmed = (): number => read(slot.confirmed)
  return {
    confirmed,
    blocked: () => read(slot.blocked) === 1,
    async goOn(more) {
      const enough = confirmed() + more
      while (confirmed() < enough) await delay(10)
    },
    rateFromNow() {
      const then = { confirmed: confirmed(), at: performance.now() }
      return () => {
        const seconds = (performance.now() - then.at) / 1000
        return Math.round((confirmed() - then.confirmed) / seconds)
      }
    },
    async stop() {
      Atomics.store(counters, slot.stopping, 1)
      await ended
      return read(slot.published)
    },
  }
}
