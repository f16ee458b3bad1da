import { hostname } from 'node:os'

import pg from 'pg'

import type { Client, Pool } from '../runtime/postgres.ts'

/** First key of the advisory locks that say "this courier lives"; the second is its owner id. */
export const lifeLockClass = 42

export interface LifeLock {
  readonly ownerId: number
  release(): Promise<void>
}

/**
 * Takes an owner id and holds pg_advisory_lock(42, ownerId) on a connection of its own until the process ends. The connection
 * must be direct: a transaction pooler would give the lock to somebody else. When it drops, `onLost` is called, and the caller
 * must end the process at once: from that moment others may hold its death certificate.
 */
export async function takeLifeLock(
  url: string,
  onLost: (reason: string) => void,
): Promise<LifeLock> {
  const client = new pg.Client({
    connectionString: url,
    application_name: 'courier-life',
    keepAlive: true,
    connectionTimeoutMillis: 5000,
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
  await client.query('SELECT pg_advisory_lock($1, $2)', [lifeLockClass, ownerId])
  return {
    ownerId,
    async release() {
      releasing = true
      await client.end()
    },
  }
}

/**
 * Takes over the orders of dead couriers: they become `in_doubt`, never a send. The certificate is the lock that is in pg_locks
 * no more. After a restart of the server every lock has vanished without a death: then nothing is certified until a courier
 * that lost its connection has certainly been ended (`killPeriodMs` after the server came up).
 */
export async function takeOverFromDead(
  ledger: Pool | Client,
  killPeriodMs: number,
): Promise<{ orderId: string; ownerId: number }[]> {
  const { rows } = await ledger.query<{ order_id: string; owner_id: number }>(
    `UPDATE order_ledger l SET state = 'in_doubt', doubt_at = clock_timestamp()
     WHERE l.state = 'sending'
       AND clock_timestamp() - pg_postmaster_start_time() > $1::float8 * interval '1 millisecond'
       AND NOT EXISTS (
         SELECT 1 FROM pg_locks k WHERE k.locktype = 'advisory' AND k.granted AND k.classid = $2 AND k.objid = l.owner_id::oid
           AND k.objsubid = 2 AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
     RETURNING l.order_id, l.owner_id`,
    [killPeriodMs, lifeLockClass],
  )
  return rows.map((row) => ({ orderId: row.order_id, ownerId: row.owner_id }))
}
