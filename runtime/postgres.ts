import pg from 'pg'

import { type Service, service } from './lifecycle.ts'
import type { Log } from './log.ts'

export type Pool = pg.Pool
export type Client = pg.PoolClient

interface PoolOptions {
  /** Shown in pg_stat_activity, so that a person sees whose statement it is. */
  readonly name: string
  readonly max?: number
  /** A transaction that its owner, frozen or cut off, leaves idle for longer is ended by the server, and its locks with it. */
  readonly idleInTransactionMs?: number
  /** A statement, or a connect, that takes longer fails, also when the server is frozen; its connection is thrown away. */
  readonly answerWithinMs?: number
  /**
   * A statement that nothing is heard of for so long fails, and its connection is thrown away: the machine at the other end may be
   * lost without a word. Default a minute; 0 = never, for what a person waits for.
   */
  readonly lostAfterMs?: number
  /** Idle connections stay: whoever uses them can't wait for a new one. */
  readonly keepIdle?: boolean
  readonly log: Log
}

export const usuallyLostAfterMs = 60_000

/** For `idleInTransactionMs`: whoever is frozen inside a transaction must not keep rows from others, nor a flip from being complete. */
export const frozenAfterMs = 5000

/** A pool that outlives restarts of its server: an idle connection that breaks is replaced, not thrown. */
export function createPool(url: string, options: PoolOptions): Pool {
  const { answerWithinMs } = options
  const lostAfterMs = options.lostAfterMs ?? usuallyLostAfterMs
  const pool = new pg.Pool({
    connectionString: url,
    application_name: options.name,
    max: options.max ?? 4,
    connectionTimeoutMillis: answerWithinMs ?? 5000,
    query_timeout: answerWithinMs ?? lostAfterMs,
    ...(answerWithinMs === undefined ? {} : { statement_timeout: answerWithinMs }),
    keepAlive: true,
    ...(options.keepIdle === true ? { idleTimeoutMillis: 0 } : {}),
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

/** A service of whoever has a pool: stops by ending it. */
export function closing(pool: Pool): Service {
  return service({ start: () => Promise.resolve(), stop: () => pool.end() })
}

/** Runs `work` in one transaction. The connection is thrown away, not reused, when its state can't be known. */
export function inTransaction<Result>(
  pool: Pool,
  work: (client: Client) => Promise<Result>,
): Promise<Result> {
  return withConnection(pool, async (client, throwAway) => {
    try {
      await client.query('BEGIN')
      const result = await work(client)
      await client.query('COMMIT')
      return result
    } catch (error) {
      // Behind a statement that is not answered, a ROLLBACK would wait as long once more.
      if (isReadTimeout(error)) throwAway(error)
      else await client.query('ROLLBACK').catch(throwAway)
      throw error
    }
  })
}

/**
 * Runs `work` while a session of its own holds the advisory lock of these keys; undefined, and nothing is run, while another one has
 * it. `work` may use the session: whoever has lost it has lost the lock. A connection on which anything failed is thrown away: a
 * statement that has timed out would hold up every later one.
 */
export function holdingLock<Result>(
  pool: Pool,
  keys: readonly [number, number],
  work: (client: Client) => Promise<Result>,
): Promise<Result | undefined> {
  return withConnection(pool, async (client, throwAway) => {
    try {
      const { rows } = await client.query<{ mine: boolean }>(
        'SELECT pg_try_advisory_lock($1, $2) AS mine',
        [...keys],
      )
      if (!rows[0]!.mine) return undefined
      const result = await work(client)
      await client.query('SELECT pg_advisory_unlock($1, $2)', [...keys])
      return result
    } catch (error) {
      throwAway(error)
      throw error
    }
  })
}

async function withConnection<Result>(
  pool: Pool,
  work: (client: Client, throwAway: (reason: unknown) => void) => Promise<Result>,
): Promise<Result> {
  const client = await pool.connect()
  let broken: Error | undefined
  const throwAway = (reason: unknown): void => {
    broken ??= asError(reason)
  }
  // Between checkout and release the pool does not listen: an unheard 'error' would end the process.
  client.on('error', throwAway)
  try {
    return await work(client, throwAway)
  } finally {
    client.off('error', throwAway)
    client.release(broken)
  }
}

function isReadTimeout(error: unknown): boolean {
  return error instanceof Error && error.message === 'Query read timeout'
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
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
    /Connection terminated|timeout exceeded when trying to connect|connection timeout|Query read timeout|not queryable/i.test(
      error.message,
    )
  )
}

/** `lock_timeout` has passed: somebody holds what was to be locked. */
export function isLockTimeout(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === '55P03'
}
