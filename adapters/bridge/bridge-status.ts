import { StranglerError } from '../../contracts/errors.ts'
import { withoutSecrets } from '../../runtime/log.ts'
import { isConnectionError } from '../../runtime/postgres.ts'
import type { Pool } from '../../runtime/postgres.ts'
import type { Broker, QueueDepth } from '../broker/port.ts'
import { bridgeQueue } from '../wire/legacy-topology.ts'
import { readBridge } from './bridge-state.ts'
import type { BridgeState } from './bridge-state.ts'
import { bindingDrift } from './bridge-topology.ts'

export interface BridgeMessages {
  /** Received and not settled. */
  readonly open: number
  /** Waiting for evidence. */
  readonly held: number
  /** Waiting for a person. */
  readonly parked: number
  /** Of the oldest open or held one. */
  readonly oldestMs: number
}

export interface BridgeStatus {
  readonly queue: string
  readonly state: BridgeState
  readonly topologyChanges: number
  /** A bridge process consumes our queue. */
  readonly consumer: boolean | 'unknown'
  /** Of our queue; undefined when there is none. */
  readonly depth: QueueDepth | 'unknown' | undefined
  readonly legacyDepth: QueueDepth | 'unknown' | undefined
  readonly messages: BridgeMessages
  /** Bindings that are not as the state wants them: a legacy service that bound its queue anew leads past the bridge. */
  readonly drift: readonly string[] | 'unknown'
  /** Why something above is unknown: the broker, or its management API, did not answer. */
  readonly unread: string | undefined
  readonly changedAt: string | undefined
  readonly who: string | undefined
}

export async function bridgeStatus(options: {
  readonly broker: Broker
  readonly ledger: Pool
  readonly queue: string
}): Promise<BridgeStatus> {
  const { broker, ledger, queue } = options
  const row = await readBridge(ledger, queue)
  const state = row?.state ?? 'absent'
  const messages = await countMessages(ledger, queue)
  let unread: string | undefined
  /** What is not known must not look like what is not there. After the first silence nothing more is asked. */
  const ask = async <Answer>(question: () => Promise<Answer>): Promise<Answer | 'unknown'> => {
    if (unread !== undefined) return 'unknown'
    try {
      return await question()
    } catch (error) {
      if (!isAway(error)) throw error
      unread = withoutSecrets(String(error instanceof Error ? error.message || error.name : error))
      return 'unknown'
    }
  }
  const legacyDepth = await ask(() => depthOf(broker, queue))
  const depth =
    state === 'absent' ? undefined : await ask(() => depthOf(broker, bridgeQueue(queue)))
  const drift = await ask(() => bindingDrift(broker, queue, state === 'inserted'))
  return {
    queue,
    state,
    topologyChanges: row?.topologyChanges ?? 0,
    consumer: depth === 'unknown' ? 'unknown' : (depth?.consumers ?? 0) > 0,
    depth,
    legacyDepth,
    messages,
    drift: drift ?? 'unknown',
    unread,
    changedAt: row?.changedAt,
    who: row?.who,
  }
}

export async function countMessages(ledger: Pool, queue: string): Promise<BridgeMessages> {
  const { rows } = await ledger.query<{
    open: string
    held: string
    parked: string
    oldest: number
  }>(
    `SELECT count(*) FILTER (WHERE state = 'received') AS open, count(*) FILTER (WHERE state = 'held') AS held,
       count(*) FILTER (WHERE state = 'parked') AS parked,
       coalesce(extract(epoch FROM clock_timestamp() - min(received_at) FILTER (WHERE state <> 'parked'))::float8 * 1000, 0) AS oldest
     FROM bridge_inbox WHERE queue = $1 AND state IN ('received', 'held', 'parked')`,
    [queue],
  )
  const row = rows[0]!
  return {
    open: Number(row.open),
    held: Number(row.held),
    parked: Number(row.parked),
    oldestMs: Math.round(row.oldest),
  }
}

function isAway(error: unknown): boolean {
  if (error instanceof StranglerError) return error.code === 'broker_unreachable'
  return isConnectionError(error)
}

async function depthOf(broker: Broker, queue: string): Promise<QueueDepth | undefined> {
  try {
    return await broker.depth(queue)
  } catch (error) {
    if (error instanceof StranglerError && error.code === 'not_found') return undefined
    throw error
  }
}
