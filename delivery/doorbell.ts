import {
  createPostgresBackend,
  type JobsOptions,
  Queue,
  type QueueOptions,
  Worker,
  type WorkerOptions,
} from 'bullmq'

import { asStranglerError, type StranglerError } from '../contracts/errors.ts'
import type { Log } from '../runtime/log.ts'

/** An order to look at in the ledger. The ledger decides what, if anything, is to be done about it. */
export interface Ring {
  readonly orderId: string
  readonly gen: number
  /** W3C trace context of whoever rang, where traces are collected. */
  readonly traceparent?: string
}

export interface DoorbellOptions {
  /** redis://, rediss:// or postgres:// */
  readonly url: string
  readonly queue: string
  /** Keeps several estates on one Redis apart. */
  readonly prefix?: string
  readonly log: Log
  /** Told of every ring, for how many orders it was. */
  onRung?(outcome: 'rung' | 'failed', orders: number): void
}

export interface ListenOptions extends DoorbellOptions {
  readonly concurrency?: number
  /** A job whose listener has not renewed its lock for this long is run again by whoever looks next. Default 30 s. */
  readonly lockMs?: number
  /** How often somebody looks. Default 5 s. */
  readonly stalledMs?: number
}

export interface DoorbellListener {
  /** False while the doorbell can't be heard: then the ledger is polled. */
  healthy(): Promise<boolean>
  pause(): Promise<void>
  resume(): void
  close(): Promise<void>
}

export type DoorbellKind = 'redis' | 'postgres'

interface RingData {
  /** `<orderId>.<gen>`, nothing else: a job carries ids only. */
  orders: string[]
  /** One for each of `orders`, '' where there is none. */
  traceparents?: string[]
}

interface RunningJob {
  readonly id?: string
  readonly data: RingData
  /** How often its lock was lost: it may still run elsewhere, in a process that was too busy to renew it. */
  readonly stalledCounter: number
}

// One job names up to this many orders. The claim behind it is one statement, whatever the number.
const ordersPerJob = 200
const commandTimeout = 2000

// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the backend's generics do not fit the classes' own
const postgresBackend = createPostgresBackend as never

export function doorbellKind(url: string): DoorbellKind {
  return /^postgres(ql)?:/i.test(url) ? 'postgres' : 'redis'
}

/** The ringing side. A ring that fails is no error of whoever accepted the order: the sweep finds the order in the ledger. */
export class Doorbell {
  readonly kind: DoorbellKind
  readonly #options: DoorbellOptions
  #queue: Queue | undefined
  #brokenUntil = 0

  constructor(options: DoorbellOptions) {
    this.kind = doorbellKind(options.url)
    this.#options = options
  }

  /** @throws StranglerError `doorbell_unavailable`; at once while the doorbell is known to be away. */
  async ring(rings: readonly Ring[]): Promise<void> {
    if (rings.length === 0) return
    if (performance.now() < this.#brokenUntil) throw this.#failed('known to be away', rings)
    const jobs: { name: string; data: RingData; opts: JobsOptions }[] = []
    for (let at = 0; at < rings.length; at += ordersPerJob) {
      const data = dataOf(rings.slice(at, at + ordersPerJob))
      jobs.push({ name: 'ring', data, opts: jobOptions(this.kind) })
    }
    try {
      this.#queue ??= openQueue(this.#options)
      await withTimeout(this.#queue.addBulk(jobs), commandTimeout * 2)
      this.#options.onRung?.('rung', rings.length)
    } catch (error) {
      // A queue object that was made or used during an outage may stay deaf for ever: the next ring makes a new one.
      const broken = this.#queue
      this.#queue = undefined
      this.#brokenUntil = performance.now() + 500
      void broken?.close().catch(() => undefined)
      throw this.#failed(error, rings)
    }
  }

  #failed(error: unknown, rings: readonly Ring[]): StranglerError {
    this.#options.onRung?.('failed', rings.length)
    return asStranglerError(error, 'doorbell_unavailable')
  }

  async close(): Promise<void> {
    const queue = this.#queue
    this.#queue = undefined
    if (queue !== undefined) await withTimeout(queue.close(), commandTimeout).catch(() => undefined)
  }
}

/**
 * The listening side: calls `onRings` for each job and finishes the job when it resolves. The worker is made when the doorbell
 * answers, and thrown away when it storms with errors: a worker whose connection broke in the wrong moment may stay deaf, or spin,
 * for ever.
 */
export function listenToDoorbell(
  options: ListenOptions,
  onRings: (rings: Ring[]) => Promise<void>,
): DoorbellListener {
  const kind = doorbellKind(options.url)
  let worker: Worker | undefined
  let probe: Queue | undefined
  let paused = false
  let closed = false
  let errors = 0
  let errorsSince = 0

  const onError = (error: Error): void => {
    const now = performance.now()
    if (now - errorsSince > 1000) {
      errorsSince = now
      errors = 0
      options.log.warn('doorbell_error', { reason: error.message })
    }
    errors += 1
    if (errors > 50) discard()
  }
  const discard = (): void => {
    worker?.close(true).catch(() => undefined)
    probe?.close().catch(() => undefined)
    worker = undefined
    probe = undefined
  }
  const processor = async (job: RunningJob): Promise<void> => {
    if (job.stalledCounter > 0)
      options.log.info('ring_again', { job: job.id, stalled: job.stalledCounter })
    await onRings(ringsOf(job.data))
  }
  const open = (): Worker => {
    const settings: WorkerOptions = {
      ...connection(options, 'listen'),
      // BullMQ's PostgreSQL backend is young: measured without lost or failed jobs at this concurrency.
      concurrency: options.concurrency ?? (kind === 'postgres' ? 4 : 16),
      lockDuration: options.lockMs ?? 30_000,
      stalledInterval: options.stalledMs ?? 5000,
      maxStalledCount: 100,
      drainDelay: 1,
    }
    const made =
      kind === 'postgres'
        ? new Worker(options.queue, processor, settings, postgresBackend)
        : new Worker(options.queue, processor, settings)
    made.on('error', onError)
    made.on('failed', (job, error) =>
      options.log.warn('ring_failed', { job: job?.id, reason: error.message }),
    )
    return made
  }

  return {
    async healthy() {
      if (closed) return false
      try {
        probe ??= openQueue(options)
        await withTimeout(probe.getWaitingCount(), commandTimeout)
      } catch {
        discard()
        return false
      }
      if (worker === undefined && !paused) worker = open()
      return worker?.isRunning() === true
    },
    async pause() {
      paused = true
      await worker?.pause(true)
    },
    resume() {
      paused = false
      worker
        ?.resume()
        .catch((error: unknown) => options.log.warn('doorbell_error', { reason: String(error) }))
    },
    async close() {
      closed = true
      await withTimeout(worker?.close() ?? Promise.resolve(), 10_000).catch((error: unknown) =>
        options.log.warn('doorbell_close_failed', {
          reason: error instanceof Error ? error.message : String(error),
        }),
      )
      await withTimeout(probe?.close() ?? Promise.resolve(), commandTimeout).catch(() => undefined)
    },
  }
}

function dataOf(rings: readonly Ring[]): RingData {
  const orders = rings.map((ring) => `${ring.orderId}.${ring.gen}`)
  if (rings.every((ring) => ring.traceparent === undefined)) return { orders }
  return { orders, traceparents: rings.map((ring) => ring.traceparent ?? '') }
}

function ringsOf({ orders, traceparents = [] }: RingData): Ring[] {
  return orders.flatMap((text, index) => {
    // The order id may itself contain dots: the generation is what follows the last one.
    const at = text.lastIndexOf('.')
    const gen = Number(text.slice(at + 1))
    if (at <= 0 || !Number.isInteger(gen)) return []
    const traceparent = traceparents[index] ?? ''
    return [{ orderId: text.slice(0, at), gen, ...(traceparent !== '' && { traceparent }) }]
  })
}

export function openQueue(options: DoorbellOptions): Queue {
  const settings: QueueOptions = { ...connection(options, 'ring'), skipMetasUpdate: true }
  const queue =
    doorbellKind(options.url) === 'postgres'
      ? new Queue(options.queue, settings, postgresBackend)
      : new Queue(options.queue, settings)
  queue.on('error', (error: Error) => options.log.warn('doorbell_error', { reason: error.message }))
  return queue
}

function connection(options: DoorbellOptions, side: 'ring' | 'listen'): QueueOptions {
  if (doorbellKind(options.url) === 'postgres') {
    const settings: Record<string, unknown> = {
      connectionString: options.url,
      max: 6,
      connectionTimeoutMillis: commandTimeout,
      application_name: 'doorbell',
    }
    return { connection: settings }
  }
  return {
    connection: {
      url: options.url,
      // A blocked pop may wait; a ring may not.
      ...(side === 'ring'
        ? { commandTimeout, maxRetriesPerRequest: 1 }
        : { maxRetriesPerRequest: null }),
      retryStrategy: (times: number) => Math.min(1000, times * 50),
    },
    ...(options.prefix === undefined ? {} : { prefix: options.prefix }),
  }
}

function jobOptions(kind: DoorbellKind): JobsOptions {
  return { attempts: 5, backoff: { type: 'exponential', delay: 500 }, ...removal(kind) }
}

/**
 * What stays of finished jobs. On the PostgreSQL backend pruning by age or count deadlocks (measured: up to 34 of 20 000
 * jobs that ran well ended `failed`), removing at once does not.
 */
function removal(kind: DoorbellKind): Pick<JobsOptions, 'removeOnComplete' | 'removeOnFail'> {
  return kind === 'postgres'
    ? { removeOnComplete: true, removeOnFail: false }
    : { removeOnComplete: { age: 3600, count: 10_000 }, removeOnFail: { age: 604_800 } }
}

async function withTimeout<Result>(promise: Promise<Result>, ms: number): Promise<Result> {
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer in ${ms} ms`)), ms)
  })
  try {
    return await Promise.race([promise, timeout])
  } finally {
    clearTimeout(timer)
  }
}
