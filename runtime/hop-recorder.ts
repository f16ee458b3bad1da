import { randomBytes } from 'node:crypto'
import { performance } from 'node:perf_hooks'

import type { QueryConfig } from 'pg'

import { GroupCommit } from './group-commit.ts'
import { service } from './lifecycle.ts'
import type { Service } from './lifecycle.ts'
import type { Log } from './log.ts'
import { isConnectionError } from './postgres.ts'
import type { Pool } from './postgres.ts'

/** One order at one place of ours, from when to when. `detail` carries labels and counts: no person, no body. */
export interface Hop {
  readonly orderId: string
  readonly hop: string
  /** performance.now() of this process. */
  readonly enteredAt: number
  readonly leftAt: number
  readonly actor: string
  readonly detail: Readonly<Record<string, string | number | boolean | null>>
}

export interface HopNumbers {
  /** Committed. */
  readonly recorded: number
  readonly dropped: number
  readonly waiting: number
}

interface HopRecorderOptions {
  readonly queueLimit?: number
  /** For what is still waiting at the stop. */
  readonly flushMs?: number
  readonly retryMs?: number
}

const statementMs = 10_000

const insert = `
  WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now)
  INSERT INTO order_event (order_id, hop, kind, at, left_at, actor, detail)
  SELECT passed.order_id, passed.hop, 'pass',
    clock.now - passed.entered_age * interval '1 ms', clock.now - passed.left_age * interval '1 ms',
    passed.actor, passed.detail
  FROM clock, unnest($1::text[], $2::text[], $3::float8[], $4::float8[], $5::text[], $6::jsonb[])
    AS passed (order_id, hop, entered_age, left_age, actor, detail)`

interface Row extends Hop {
  readonly pass: string
}

/**
 * Writes hops into the ledger's `order_event`, behind the requests and never in their way: `record` returns at once, and with
 * the database away hops wait, up to a limit, and beyond it are dropped and counted. Times become the database's clock as ages.
 * A commit whose answer is lost is repeated: both rows then carry the same `detail.pass`.
 */
export class HopRecorder implements Service {
  readonly #life: Service
  readonly #pool: Pool
  readonly #log: Log
  readonly #queueLimit: number
  readonly #flushMs: number
  readonly #retryMs: number
  readonly #group: GroupCommit<Row, boolean>
  readonly #run = randomBytes(6).toString('hex')
  #sequence = 0
  #recorded = 0
  #dropped = 0
  #waiting = 0
  #open = true
  #givenUp = new AbortController()

  constructor(pool: Pool, log: Log, options: HopRecorderOptions = {}) {
    this.#pool = pool
    this.#log = log
    this.#queueLimit = options.queueLimit ?? 50_000
    this.#flushMs = options.flushMs ?? 5000
    this.#retryMs = options.retryMs ?? 250
    this.#group = new GroupCommit((rows) => this.#commit(rows), { maxRows: 500, maxInFlight: 1 })
    this.#life = service({
      start: async () => {
        this.#open = true
        this.#givenUp = new AbortController()
      },
      stop: () => this.#flush(),
    })
  }

  start(): Promise<void> {
    return this.#life.start()
  }

  stop(): Promise<void> {
    return this.#life.stop()
  }

  record(hop: Hop): void {
    if (!this.#open || this.#waiting >= this.#queueLimit) {
      this.#dropped += 1
      return
    }
    this.#waiting += 1
    this.#sequence += 1
    const givenUp = this.#givenUp.signal
    const row = { ...hop, pass: `${this.#run}-${this.#sequence}` }
    this.#group.push(row).then(
      (committed) => this.#settle(givenUp, committed),
      () => this.#settle(givenUp, false),
    )
  }

  numbers(): HopNumbers {
    return { recorded: this.#recorded, dropped: this.#dropped, waiting: this.#waiting }
  }

  #settle(givenUp: AbortSignal, committed: boolean): void {
    // Counted as dropped already, when it was given up.
    if (givenUp.aborted) return
    this.#waiting -= 1
    if (committed) this.#recorded += 1
    else this.#dropped += 1
  }

  /** Whether each row was committed. A database that is away is waited for, until the stop gives up. */
  async #commit(rows: Row[]): Promise<boolean[]> {
    const givenUp = this.#givenUp.signal
    let told = false
    for (;;) {
      try {
        await this.#insert(rows)
        return rows.map(() => true)
      } catch (error) {
        if (givenUp.aborted) throw error
        if (isRowsFault(error)) return await this.#commitEach(rows, error)
        if (!told)
          this.#log.warn('hops_wait_for_ledger', { waiting: this.#waiting, reason: String(error) })
        told = true
        await pause(this.#retryMs, givenUp)
      }
    }
  }

  /** One row that the database can't take must not cost the others of its batch. */
  async #commitEach(rows: Row[], fault: unknown): Promise<boolean[]> {
    if (rows.length === 1) {
      this.#log.error('hop_refused_by_ledger', { hop: rows[0]!.hop }, fault)
      return [false]
    }
    const committed: boolean[] = []
    for (const row of rows) committed.push(...(await this.#commit([row])))
    return committed
  }

  async #insert(rows: readonly Row[]): Promise<void> {
    const client = await this.#pool.connect()
    let broken: Error | undefined
    // Between checkout and release the pool does not listen: an unheard 'error' would end the process.
    const onError = (error: Error): void => {
      broken = error
    }
    client.on('error', onError)
    try {
      // Not before the connection: what it took to connect would make every hop younger.
      await client.query(statementFor(rows, performance.now()))
    } catch (error) {
      broken ??= error instanceof Error ? error : new Error(String(error))
      throw error
    } finally {
      client.off('error', onError)
      client.release(broken)
    }
  }

  async #flush(): Promise<void> {
    this.#open = false
    const over = new AbortController()
    const inTime = await Promise.race([
      this.#group.drain().then(() => true),
      pause(this.#flushMs, over.signal).then(() => false),
    ])
    over.abort()
    if (inTime) return
    const lost = this.#waiting
    this.#givenUp.abort()
    this.#waiting = 0
    this.#dropped += lost
    this.#log.error('hops_lost_at_stop', { lost })
  }
}

function statementFor(rows: readonly Row[], now: number): QueryConfig & { query_timeout: number } {
  return {
    name: 'record-hops',
    text: insert,
    values: [
      rows.map((row) => row.orderId),
      rows.map((row) => row.hop),
      rows.map((row) => now - row.enteredAt),
      rows.map((row) => now - row.leftAt),
      rows.map((row) => row.actor),
      rows.map((row) => JSON.stringify({ ...row.detail, pass: row.pass })),
    ],
    // A server that vanished without a word would hold the queue for ever.
    query_timeout: statementMs,
  }
}

/** Data the database refuses, as opposed to a database that can't answer now. */
function isRowsFault(error: unknown): boolean {
  if (isConnectionError(error) || !(error instanceof Error) || !('code' in error)) return false
  return /^(22|23)[0-9A-Z]{3}$/.test(String(error.code))
}

function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms)
    signal?.addEventListener('abort', () => {
      clearTimeout(timer)
      resolve()
    })
  })
}
