import { setTimeout as delay } from 'node:timers/promises'

import type { Ring } from '../../delivery/doorbell.ts'
import { service } from '../../runtime/lifecycle.ts'
import type { Service } from '../../runtime/lifecycle.ts'
import type { Log } from '../../runtime/log.ts'
import type { Pool } from '../../runtime/postgres.ts'
import type { Tracing } from '../../runtime/tracing.ts'
import type { Broker } from '../broker/port.ts'
import { bridgeQueue } from '../wire/legacy-topology.ts'
import { BridgeAttachment } from './bridge-attachment.ts'
import { BridgeSender } from './bridge-sender.ts'
import { readBridge } from './bridge-state.ts'
import type { BridgeState } from './bridge-state.ts'
import type { BridgeCounters } from './bridge-worker.ts'
import { HeldMessages } from './held-messages.ts'

export interface BridgeOptions {
  readonly queue: string
  readonly broker: Broker
  readonly ledger: Pool
  readonly shop: Pool
  readonly mes: Pool
  readonly settleMs: number
  ring(orders: readonly Ring[]): void
  readonly tracing?: Tracing
  readonly log: Log
}

export interface Bridge extends Service {
  readonly counters: Readonly<BridgeCounters>
}

const lookMs = 500

/** The pass-through of one legacy queue. It consumes while the table `bridge` says that there is one, and settles what is held. */
export function bridge(options: BridgeOptions): Bridge {
  const { queue, broker, ledger, log } = options
  const counters: BridgeCounters = {
    received: 0,
    forwarded: 0,
    suppressed: 0,
    diverted: 0,
    unreadable: 0,
    parked: 0,
    held: 0,
  }
  const sender = new BridgeSender(broker, queue, log)
  const held = new HeldMessages({ ...options, sender })
  let stopping = new AbortController()
  let running: Promise<unknown> = Promise.resolve()
  let attachment: BridgeAttachment | undefined
  let removing = false

  const wanted = async (state: BridgeState): Promise<boolean> => {
    if (state === 'absent') return false
    if (state !== 'removing') return true
    // Let go of an empty queue, so that it can be deleted; come back when something is in it.
    if (attachment !== undefined) return !attachment.idle
    return (await broker.depth(bridgeQueue(queue))).ready > 0
  }

  const look = async (): Promise<void> => {
    const state = (await readBridge(ledger, queue))?.state ?? 'absent'
    removing = state === 'removing'
    if (await wanted(state)) {
      attachment ??= new BridgeAttachment({ ...options, sender, held, counters })
    } else {
      await attachment?.stop()
      attachment = undefined
    }
  }

  const repeat = async (
    signal: AbortSignal,
    what: string,
    step: () => Promise<void>,
  ): Promise<void> => {
    while (!signal.aborted) {
      await step().catch((error: unknown) =>
        log.warn('bridge_waits', { queue, what, reason: String(error) }),
      )
      await delay(lookMs, undefined, { signal }).catch(() => undefined)
    }
  }

  const settleHeld = async (): Promise<void> => {
    // Only the process that consumes: two of them would keep the sender from each other.
    if (attachment?.consuming === true || removing) await held.climb(stopping.signal)
    await sender.closeWhenIdle()
  }

  const life = service({
    start() {
      stopping = new AbortController()
      const { signal } = stopping
      running = Promise.all([repeat(signal, 'state', look), repeat(signal, 'held', settleHeld)])
      return Promise.resolve()
    },
    async stop() {
      stopping.abort()
      await running
      await attachment?.stop()
      attachment = undefined
      await sender.close()
    },
  })
  return { ...life, counters }
}
