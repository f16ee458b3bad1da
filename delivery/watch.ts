import { type Service } from '../runtime/lifecycle.ts'
import { inOrder } from '../runtime/lifecycle.ts'
import type { Log } from '../runtime/log.ts'
import { pollLoop } from '../runtime/poll-loop.ts'
import type { Client, Pool } from '../runtime/postgres.ts'
import type { InDoubtLadder } from './in-doubt-ladder.ts'
import { takeOverFromDead } from './life-lock.ts'

interface WatchOptions {
  readonly ledger: Pool
  readonly ladder: InDoubtLadder
  readonly killPeriodMs: number
  readonly log: Log
}

/** First key of the advisory lock that makes one watch the leader. */
const leaderLock = 45

/**
 * The chores that exactly one process does: take over from dead couriers, climb the in-doubt ladder, prepare partitions. The
 * leader holds an advisory lock in the very transaction-less session that does the work, so a leader that lost its session
 * can't go on. Every chore is safe to do twice: the lock saves work, it does not carry correctness.
 */
export function watch(options: WatchOptions): Service {
  let partitionsUntil = 0
  const round = pollLoop({
    name: 'watch',
    log: options.log,
    idleMs: () => 250,
    work: async () => {
      const client = await options.ledger.connect()
      let broken: Error | undefined
      const onError = (error: Error): void => {
        broken = error
      }
      client.on('error', onError)
      try {
        if (!(await isLeader(client))) return false
        for (const taken of await takeOverFromDead(client, options.killPeriodMs)) {
          options.log.warn('taken_over_in_doubt', {
            orderId: taken.orderId,
            deadOwner: taken.ownerId,
          })
        }
        await options.ladder.climb()
        if (performance.now() > partitionsUntil) {
          await client.query('SELECT prepare_event_partitions(7)')
          partitionsUntil = performance.now() + 3_600_000
        }
        return false
      } finally {
        await client.query('SELECT pg_advisory_unlock_all()').catch(() => undefined)
        client.off('error', onError)
        client.release(broken)
      }
    },
  })
  return inOrder([round])
}

async function isLeader(client: Client): Promise<boolean> {
  const { rows } = await client.query<{ leader: boolean }>(
    'SELECT pg_try_advisory_lock($1, 0) AS leader',
    [leaderLock],
  )
  return rows[0]!.leader
}
