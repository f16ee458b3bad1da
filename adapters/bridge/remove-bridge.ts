import { setTimeout as delay } from 'node:timers/promises'

import { StranglerError } from '../../contracts/errors.ts'
import { repinPhase, statusesToCome } from '../../delivery/repin-statuses.ts'
import type { Pool } from '../../runtime/postgres.ts'
import type { Broker } from '../broker/port.ts'
import { bridgeQueue, eventsToCrm, ordersToMes } from '../wire/legacy-topology.ts'
import { passMarker } from './ambiguity-marker.ts'
import { beginChange, endChange, readBridge, withBridgeLock } from './bridge-state.ts'
import { bridgeStatus, countMessages } from './bridge-status.ts'
import type { BridgeStatus } from './bridge-status.ts'
import { bridgeTopology } from './bridge-topology.ts'

/** What is left before our queue can go. */
export interface RemoveProgress {
  /** In our queue. */
  readonly ready: number
  readonly held: number
  /** The bridge process is still attached; it lets go when the queue has been empty for a moment. */
  readonly consumers: number
}

export interface RemoveBridgeOptions {
  readonly broker: Broker
  readonly ledger: Pool
  readonly queue: string
  readonly who: string
  readonly onProgress?: (progress: RemoveProgress) => void
  /** Gives up waiting. The state stays `removing`; running this again goes on. */
  readonly signal?: AbortSignal
}

const lookAgainMs = 250

/**
 * Binds the legacy queue back and takes ours out when the bridge process has carried on everything that is in it. Safe to
 * run again after a crash at any step. The forward exchange stays: a courier may just be sending through it.
 */
export async function removeBridge(options: RemoveBridgeOptions): Promise<BridgeStatus> {
  const { broker, ledger, queue, who, signal } = options
  const topology = await bridgeTopology(broker, queue)
  await withBridgeLock(ledger, queue, async () => {
    const before = await readBridge(ledger, queue)
    if (before === undefined || before.state === 'absent') return
    await refuseWhileNeeded(ledger, queue)
    const exact = broker.kind === 'postgres'
    await beginChange(ledger, { queue, who, state: 'removing', exact })
    await broker.rebind({ add: topology.straight, remove: topology.through })
    if (!exact) {
      const ambiguousUntil = await passMarker({ broker, ledger, queue, waitMs: 3_600_000, signal })
      await ledger.query('UPDATE bridge SET ambiguous_until = $2::timestamptz WHERE queue = $1', [
        queue,
        ambiguousUntil,
      ])
    }
    await drained(options)
    await endChange(ledger, { queue, state: 'absent', ambiguousUntil: null, changed: true })
  })
  return bridgeStatus({ broker, ledger, queue })
}

/** Returns when our queue is deleted, which the broker does only while it is empty and nobody holds anything of it. */
async function drained({
  broker,
  ledger,
  queue,
  onProgress,
  signal,
}: RemoveBridgeOptions): Promise<void> {
  for (;;) {
    signal?.throwIfAborted()
    const depth = await broker.depth(bridgeQueue(queue)).catch((error: unknown) => {
      if (error instanceof StranglerError && error.code === 'not_found') return undefined
      throw error
    })
    const { held } = await countMessages(ledger, queue)
    const ready = depth?.ready ?? 0
    const consumers = depth?.consumers ?? 0
    onProgress?.({ ready, held, consumers })
    if (ready === 0 && consumers === 0 && held === 0) {
      try {
        await broker.deleteQueue(bridgeQueue(queue))
        return
      } catch (error) {
        // What a consumer gave back in this moment is in it again.
        if (!(error instanceof StranglerError) || error.code !== 'refused') throw error
      }
    }
    await delay(lookAgainMs)
  }
}

interface Need {
  readonly phase: string
  /** Counts the orders that are not done with the bridge. */
  readonly open: string
  readonly says: string
  /** What helps once the phase is rolled back. */
  readonly orElse?: string
}

const needs: Readonly<Record<string, Need>> = {
  // Direct orders travel through our exchange; without it they could not be delivered.
  [ordersToMes.queue]: {
    phase: 'orders-direct',
    open: `SELECT count(*) FROM order_ledger WHERE path = 'direct' AND state NOT IN ('delivered', 'dead', 'cancelled')`,
    says: 'on their way',
  },
  // A status that goes to CRM past the bridge does not stick: the fence holds CRM off an order whose statuses are direct.
  [eventsToCrm.queue]: {
    phase: 'statuses-direct',
    open: `SELECT (SELECT count(*) FROM order_ledger l WHERE ${statusesToCome.direct})
           + (SELECT count(*) FROM handover WHERE phase = '${repinPhase}' AND finished_at IS NULL)`,
    says: 'with statuses still to come',
    orElse: 'what will never be shipped goes back to CRM by "strangler repin all", or one by one',
  },
}

async function refuseWhileNeeded(ledger: Pool, queue: string): Promise<void> {
  const need = needs[queue]
  if (need === undefined) return
  const { rows } = await ledger.query<{ share: number; open: string }>(
    `SELECT coalesce((SELECT share FROM phase WHERE phase = $1), 0) AS share, (${need.open}) AS open`,
    [need.phase],
  )
  const { share, open } = rows[0]!
  if (share === 0 && Number(open) === 0) return
  const help =
    share > 0 || need.orElse === undefined ? `roll ${need.phase} back first` : need.orElse
  throw new StranglerError(
    'refused',
    `direct orders need it: share ${share / 100} %, ${open} ${need.says}; ${help}`,
  )
}
