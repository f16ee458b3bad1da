import { logged } from '../contracts/order-trace.ts'
import { type Service } from '../runtime/lifecycle.ts'
import { inOrder } from '../runtime/lifecycle.ts'
import type { Log } from '../runtime/log.ts'
import { pollLoop } from '../runtime/poll-loop.ts'
import { holdingLock, type Pool } from '../runtime/postgres.ts'
import type { InDoubtLadder } from './in-doubt-ladder.ts'
import { TakeOver } from './life-lock.ts'

interface WatchOptions {
  readonly ledger: Pool
  readonly ladder: InDoubtLadder
  readonly killPeriodMs: number
  /** Told of each round of the leader. */
  onRound?(round: WatchRound): void
  readonly log: Log
}

/** Orders, by what became of them. */
export interface WatchRound {
  readonly takenOver: number
  readonly delivered: number
  readonly resent: number
}

/** The advisory lock that makes one watch the leader. */
const leaderLock = [45, 0] as const

/**
 * The chores that exactly one process does: take over from dead couriers, climb the in-doubt ladder, prepare partitions, tidy up. The
 * leader holds an advisory lock in the very transaction-less session that does the work, so a leader that lost its session
 * can't go on. Every chore is safe to do twice: the lock saves work, it does not carry correctness.
 */
export function watch(options: WatchOptions): Service {
  const takeOver = new TakeOver(options.killPeriodMs)
  let partitionsUntil = 0
  let tracesUntil = 0
  const round = pollLoop({
    name: 'watch',
    log: options.log,
    idleMs: () => 250,
    work: async () => {
      await holdingLock(options.ledger, leaderLock, async (client) => {
        const takenOver = await takeOver.fromDead(client, performance.now())
        for (const taken of takenOver) {
          options.log.warn('taken_over_in_doubt', {
            ...logged(taken),
            deadOwner: taken.ownerId,
          })
        }
        const { delivered, resent } = await options.ladder.climb()
        options.onRound?.({ takenOver: takenOver.length, delivered, resent })
        if (performance.now() > partitionsUntil) {
          await client.query('SELECT prepare_event_partitions(7)')
          partitionsUntil = performance.now() + 3_600_000
        }
        if (performance.now() > tracesUntil) {
          await client.query(
            `DELETE FROM submit_trace WHERE at < clock_timestamp() - interval '1 hour'`,
          )
          tracesUntil = performance.now() + 600_000
        }
      })
      return false
    },
  })
  return inOrder([round])
}
