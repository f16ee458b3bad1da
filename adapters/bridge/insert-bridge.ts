import { setTimeout as delay } from 'node:timers/promises'

import { StranglerError } from '../../contracts/errors.ts'
import type { Pool } from '../../runtime/postgres.ts'
import type { Broker } from '../broker/port.ts'
import { bridgeQueue, forwardExchange } from '../wire/legacy-topology.ts'
import { passMarker } from './ambiguity-marker.ts'
import { beginChange, endChange, readBridge, withBridgeLock } from './bridge-state.ts'
import { bridgeStatus } from './bridge-status.ts'
import type { BridgeStatus } from './bridge-status.ts'
import { bindingDrift, bridgeTopology } from './bridge-topology.ts'

export { bridgeStatus, type BridgeStatus } from './bridge-status.ts'
export { removeBridge, type RemoveProgress } from './remove-bridge.ts'

export interface InsertBridgeOptions {
  readonly broker: Broker
  readonly ledger: Pool
  readonly queue: string
  readonly who: string
  /** How long a bridge process may take to come to our queue. */
  readonly waitForBridgeMs?: number
}

/**
 * Puts our queue between a legacy exchange and its queue, while everybody works. Safe to run again after a crash at any
 * step: the state is written before the first change of the topology and after the last, and every step may be repeated.
 * It insists on a running bridge first: without one, from the change on orders would wait.
 */
export async function insertBridge(options: InsertBridgeOptions): Promise<BridgeStatus> {
  const { broker, ledger, queue } = options
  const topology = await bridgeTopology(broker, queue)
  await withBridgeLock(ledger, queue, async () => {
    const before = await readBridge(ledger, queue)
    if (before?.state === 'inserted') {
      const drift = await bindingDrift(broker, queue, true)
      if (drift === undefined || drift.length === 0) return
    }
    await broker.declareQueue(bridgeQueue(queue))
    await broker.declareTopicExchange(forwardExchange(queue))
    await broker.rebind({ add: [topology.onward], remove: [] })
    await beginChange(ledger, {
      queue,
      who: options.who,
      state: 'inserting',
      exact: broker.kind === 'postgres',
    })
    const { waitForBridgeMs = 15_000 } = options
    if (!(await consumerComes(broker, queue, waitForBridgeMs))) {
      const untouched = before === undefined || before.state === 'absent'
      if (untouched) {
        await endChange(ledger, { queue, state: 'absent', ambiguousUntil: null, changed: false })
      }
      throw new StranglerError(
        'refused',
        `no bridge process consumes ${bridgeQueue(queue)}: start it first`,
      )
    }
    const { exact } = await broker.rebind({ add: topology.through, remove: topology.straight })
    const ambiguousUntil = exact
      ? null
      : await passMarker({ broker, ledger, queue, waitMs: 4 * waitForBridgeMs, signal: undefined })
    await endChange(ledger, { queue, state: 'inserted', ambiguousUntil, changed: true })
  })
  return bridgeStatus({ broker, ledger, queue })
}

async function consumerComes(broker: Broker, queue: string, withinMs: number): Promise<boolean> {
  const deadline = performance.now() + withinMs
  for (;;) {
    if ((await broker.depth(bridgeQueue(queue))).consumers > 0) return true
    if (performance.now() > deadline) return false
    await delay(100)
  }
}
