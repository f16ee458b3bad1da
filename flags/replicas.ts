import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { setTimeout as pause } from 'node:timers/promises'

import { inOrder, service } from '../runtime/lifecycle.ts'
import type { Service } from '../runtime/lifecycle.ts'
import type { Log } from '../runtime/log.ts'
import { pollLoop } from '../runtime/poll-loop.ts'
import type { Pool } from '../runtime/postgres.ts'
import type { FlipWait } from './flip-complete.ts'
import type { PhaseId } from './phases.ts'

/*
 * Fencing. A replica renews its lease by acknowledging the epochs that are in force, in one statement. One that can't (frozen,
 * cut off, the ledger away) holds it no more after `leaseMs`, by its own monotonic clock and counted from before it asked, and
 * takes up nothing of what a phase moves until it has acknowledged again. So of every replica it is true at any time that it has
 * acknowledged the epoch, or has stopped: a flip waits for the first or for the second, never for ever.
 */

const beatMs = 300
/** Where a phase has just moved it may move again soon, and somebody waits for the acknowledgement. */
const quickBeatMs = 20
const quickForMs = 1000
const defaultLeaseMs = 3000

export interface EpochLease extends Service {
  /** False: take up nothing that a phase moves. */
  holds(): boolean
}

export function epochLease(options: {
  readonly ledger: Pool
  /** `courier`, `relay`, ... */
  readonly kind: string
  readonly leaseMs?: number
  readonly log: Log
}): EpochLease {
  const { ledger, kind, log } = options
  const leaseMs = options.leaseMs ?? defaultLeaseMs
  const id = randomUUID()
  let acknowledgedAt = Number.NEGATIVE_INFINITY
  let told = false
  let known = ''
  let changedAt = Number.NEGATIVE_INFINITY
  const holds = (): boolean => performance.now() - acknowledgedAt < leaseMs
  const acknowledge = async (): Promise<void> => {
    const askedAt = performance.now()
    const { rows } = await ledger.query<{ epochs: string }>({
      name: 'acknowledge-epochs',
      text: acknowledgeEpochs,
      values: [id, kind, hostname(), process.pid, leaseMs],
    })
    acknowledgedAt = askedAt
    const epochs = rows[0]!.epochs
    if (known !== '' && epochs !== known) changedAt = askedAt
    known = epochs
    if (!told) log.info('lease_taken', { kind })
    told = true
  }
  const beat = pollLoop({
    name: 'epoch lease',
    async work() {
      if (!holds() && told) {
        told = false
        log.warn('lease_lost', { kind, leaseMs })
      }
      await acknowledge()
      return false
    },
    idleMs: () => (performance.now() - changedAt < quickForMs ? quickBeatMs : beatMs),
    log,
  })
  const registration = service({
    start: () => Promise.resolve(),
    // Best effort: a row that is left behind is stale after its lease.
    async stop() {
      await ledger.query('DELETE FROM replica WHERE id = $1', [id]).catch(() => undefined)
    },
  })
  return { holds, ...inOrder([registration, beat]) }
}

const acknowledgeEpochs = `
  INSERT INTO replica (id, kind, host, pid, lease_ms, epochs)
  SELECT $1, $2, $3, $4, $5, (SELECT coalesce(jsonb_object_agg(phase, epoch), '{}') FROM phase)
  -- A crash of the server may take the last beat with it: then it lapses a little early.
  FROM (SELECT set_config('synchronous_commit', 'off', true)) AS s
  ON CONFLICT (id) DO UPDATE SET epochs = excluded.epochs, seen_at = clock_timestamp()
  RETURNING epochs::text`

export interface Replica {
  readonly kind: string
  readonly host: string
  readonly pid: number
  readonly epochs: Readonly<Partial<Record<PhaseId, number>>>
  /** Silent for longer than its lease: it has stopped by itself. */
  readonly lapsed: boolean
  readonly silentMs: number
}

const forgottenAfter = '1 hour'

/** Those of the last hour. */
export async function readReplicas(ledger: Pool): Promise<Replica[]> {
  const { rows } = await ledger.query<Replica>(
    `SELECT kind, host, pid, epochs, silent > lease_ms AS lapsed, silent AS "silentMs"
     FROM (SELECT *, extract(epoch FROM clock_timestamp() - seen_at)::float8 * 1000 AS silent FROM replica
           WHERE seen_at > clock_timestamp() - $1::interval) r
     ORDER BY kind, host, pid`,
    [forgottenAfter],
  )
  return rows
}

/** Waits until every replica has acknowledged the epoch, or has stopped by itself. */
export async function waitForReplicas(
  ledger: Pool,
  phase: PhaseId,
  epoch: number,
  deadlineMs: number,
): Promise<FlipWait> {
  const started = performance.now()
  for (let waits = 1; ; waits += 1) {
    const behind = (await readReplicas(ledger)).find(
      ({ lapsed, epochs }) => !lapsed && (epochs[phase] ?? 0) < epoch,
    )
    const waitedMs = performance.now() - started
    if (behind === undefined) return { complete: true, waitedMs }
    if (waitedMs >= deadlineMs) {
      const { kind, host, pid } = behind
      return {
        complete: false,
        waitedMs,
        heldBy: `${kind} ${pid} on ${host}, which has not acknowledged epoch ${epoch},`,
      }
    }
    await pause(Math.min(5 * waits, 50))
  }
}
