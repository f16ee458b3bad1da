import pg from 'pg'

import type { Log } from './log.ts'

export type Pool = pg.Pool
export type Client = pg.PoolClient

interface PoolOptions {
  /** Shown in pg_stat_activity, so that a person sees whose statement it is. */
  readonly name: string
  readonly max?: number
  /** A transaction that its owner, frozen or cut off, leaves idle for longer is ended by the server, and its locks with it. */
  readonly idleInTransactionMs?: number
  readonly log: Log
}

/** A pool that outlives restarts of its server: an idle connection that breaks is replaced, not thrown. */
export function createPool(url: string, options: PoolOptions): Pool {
  const pool = new pg.Pool({
    connectionString: url,
    application_name: options.name,
    max: options.max ?? 4,
    connectionTimeoutMillis: 5000,
    keepAlive: true,
    // A generic plan made while a table was small scans it whole when it has grown; planning a batch costs a tenth of a millisecond.
    options: '-c plan_cache_mode=force_custom_plan',
    ...(options.idleInTransactionMs === undefined
      ? {}
      : { idle_in_transaction_session_timeout: options.idleInTransactionMs }),
  })
  pool.on('error', (error) =>
    options.log.warn('idle_connection_lost', { pool: options.name, reason: error.message }),
  )
  return pool
}

/** Runs `work` in one transaction. The connection is thrown away, not reused, when its state can't be known. */
export async function inTransaction<Result>(
  pool: Pool,
  work: (client: Client) => Promise<Result>,
): Promise<Result> {
  const client = await pool.connect()
  let broken: Error | undefined
  // Between checkout and release the pool does not listen: an unheard 'error' would end the process.
  const onError = (error: Error): void => {
    broken = error
  }
  client.on('error', onError)
  try {
    await client.query('BEGIN')
    const result = await work(client)
    await client.query('COMMIT')
    return result
  } catch (error) {
    await client.query('ROLLBACK').catch((rollbackError: unknown) => {
      broken ??= rollbackError instanceof Error ? rollbackError : new Error(String(rollbackError))
    })
    throw error
  } finally {
    client.off('error', onError)
    client.release(broken)
  }
}

/**
 * True for errors that say "the server is away", not "the statement is wrong": only these are worth repeating. FATAL is what a
 * server says that ends a session or lets none begin, whatever the reason.
 */
export function isConnectionError(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const code = 'code' in error ? String(error.code) : ''
  return (
    ('severity' in error && error.severity === 'FATAL') ||
    /^(ECONNREFUSED|ECONNRESET|EPIPE|ETIMEDOUT|ENOTFOUND|57P0[1-5]|25P03|08\d{3}|53300)$/.test(
      code,
    ) ||
    /Connection terminated|timeout exceeded when trying to connect|connection timeout|not queryable/i.test(
      error.message,
    )
  )
}
