import { hostname } from 'node:os'

import pg from 'pg'

import { usuallyLostAfterMs } from '../runtime/postgres.ts'
import type { Client } from '../runtime/postgres.ts'

/** First key of the advisory locks that say "this courier lives"; the second is its owner id. */
export const lifeLockClass = 42

export interface LifeLock {
  readonly ownerId: number
  release(): Promise<void>
}

/**
 * Takes an owner id and holds pg_advisory_lock(42, ownerId) on a connection of its own until the process ends. The connection
 * must be direct: a transaction pooler would give the lock to somebody else. When it drops or falls silent, `onLost` is called, and the caller
 * must end the process at once: from that moment others may hold its death certificate.
 */
export async function takeLifeLock(
  url: string,
  onLost: (reason: string) => void,
  lostAfterMs = usuallyLostAfterMs,
): Promise<LifeLock> {
  const client = new pg.Client({
    connectionString: url,
    application_name: 'courier-life',
    keepAlive: true,
    connectionTimeoutMillis: 5000,
    query_timeout: lostAfterMs,
  })
  let releasing = false
  client.on('error', (error) => {
    if (!releasing) onLost(error.message)
  })
  client.on('end', () => {
    if (!releasing) onLost('connection ended')
  })
  await client.connect()
  const { rows } = await client.query<{ owner_id: number }>(
    `INSERT INTO courier_owner (host, pid) VALUES ($1, $2) RETURNING owner_id`,
    [hostname(), process.pid],
  )
  const ownerId = rows[0]!.owner_id
  await client.query(giveUpSilentClient(lostAfterMs))
  await client.query('SELECT pg_advisory_lock($1, $2)', [lifeLockClass, ownerId])
  // A connection whose other end is lost without a word does not drop by itself.
  const asking = setInterval(() => {
    client.query('SELECT').catch((error: unknown) => {
      if (!releasing) onLost(error instanceof Error ? error.message : String(error))
    })
  }, lostAfterMs / 2)
  asking.unref()
  return {
    ownerId,
    async release() {
      releasing = true
      clearInterval(asking)
      await client.end()
    },
  }
}

/**
 * A machine that is lost says no word, and its lock would stay for the two hours of TCP's own keepalive. The server gives it up
 * after three times `lostAfterMs` and the probes: we have ended ourselves after one and a half, and a machine that was only
 * suspended finds its broker connection closed before, by the heartbeat of ten seconds (RabbitMQ; not in the URL: that wins).
 */
function giveUpSilentClient(lostAfterMs: number): string {
  const idleSeconds = Math.ceil((3 * lostAfterMs) / 1000)
  return `SET tcp_keepalives_idle = ${idleSeconds}; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3;
    SET tcp_user_timeout = ${(idleSeconds + 30) * 1000}`
}

/**
 * Takes over the orders of dead couriers: they become `in_doubt`, never a send. The certificate is the lock that is in pg_locks
 * no more. When the server restarts, or a standby is promoted to be it, every lock has vanished without a death: then nothing is
 * certified until a courier that lost its connection has certainly been ended, `killPeriodMs` after we have first seen that server.
 */
export class TakeOver {
  readonly #killPeriodMs: number
  #server: string | undefined
  #seenAt = 0

  constructor(killPeriodMs: number) {
    this.#killPeriodMs = killPeriodMs
  }

  /** @param now performance.now() */
  async fromDead(
    ledger: Client,
    now: number,
  ): Promise<{ orderId: string; traceparent: string | null; ownerId: number }[]> {
    // A standby that is promoted has run for long: not its age counts, but since when it is our server.
    const { rows: servers } = await ledger.query<{ server: string }>(
      'SELECT pg_postmaster_start_time()::text AS server',
    )
    if (servers[0]!.server !== this.#server) {
      this.#server = servers[0]!.server
      this.#seenAt = now
    }
    if (now - this.#seenAt < this.#killPeriodMs) return []
    const { rows } = await ledger.query<{
      order_id: string
      traceparent: string | null
      owner_id: number
    }>(takeOver, [lifeLockClass])
    return rows.map(({ order_id: orderId, traceparent, owner_id: ownerId }) => ({
      orderId,
      traceparent,
      ownerId,
    }))
  }
}

/** Hop of the record that an owner's death certificate was acted on. */
export const takenOver = 'taken over'

const takeOver = `
  WITH taken AS (
    UPDATE order_ledger l SET state = 'in_doubt', doubt_at = clock_timestamp()
    WHERE l.state = 'sending'
      AND NOT EXISTS (
        SELECT 1 FROM pg_locks k WHERE k.locktype = 'advisory' AND k.granted AND k.classid = $1 AND k.objid = l.owner_id::oid
          AND k.objsubid = 2 AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
    RETURNING l.order_id, l.traceparent, l.owner_id),
  noted AS (
    INSERT INTO order_event (order_id, hop, kind, actor, detail)
    SELECT order_id, '${takenOver}', 'note', 'watch', jsonb_build_object('from', owner_id, 'evidence', 'its life lock is gone') FROM taken)
  SELECT order_id, traceparent, owner_id FROM taken`
