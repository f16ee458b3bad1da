interface Waiting<Row, Result> {
  readonly row: Row
  resolve(result: Result): void
  reject(error: unknown): void
}

interface GroupCommitOptions {
  readonly maxRows?: number
  readonly maxInFlight?: number
}

/**
 * Many callers, few statements. Rows that arrive while a statement is on its way wait for the next one, so one caller gets
 * batches of one and 64 callers batches of 64, without a timer. A caller's promise settles after the commit of its row.
 */
export class GroupCommit<Row, Result> {
  readonly #flush: (rows: Row[]) => Promise<readonly Result[]>
  readonly #maxRows: number
  readonly #maxInFlight: number
  #queue: Waiting<Row, Result>[] = []
  #inFlight = 0
  #scheduled = false
  #idle: (() => void)[] = []

  /** `flush` commits the rows and returns one result per row, in order; if it rejects, every row of the batch does. */
  constructor(
    flush: (rows: Row[]) => Promise<readonly Result[]>,
    options: GroupCommitOptions = {},
  ) {
    this.#flush = flush
    this.#maxRows = options.maxRows ?? 500
    this.#maxInFlight = options.maxInFlight ?? 2
  }

  push(row: Row): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ row, resolve, reject })
      this.#schedule()
    })
  }

  /** Resolves when nothing is waiting or in flight. */
  drain(): Promise<void> {
    if (this.#queue.length === 0 && this.#inFlight === 0) return Promise.resolve()
    return new Promise((resolve) => {
      this.#idle.push(resolve)
    })
  }

  #schedule(): void {
    if (this.#scheduled || this.#inFlight >= this.#maxInFlight || this.#queue.length === 0) return
    this.#scheduled = true
    // The rest of this turn of the event loop still joins the batch.
    setImmediate(() => {
      this.#scheduled = false
      void this.#run()
    })
  }

  async #run(): Promise<void> {
    const batch = this.#queue.splice(0, this.#maxRows)
    if (batch.length === 0) return
    this.#inFlight += 1
    this.#schedule()
    try {
      const results = await this.#flush(batch.map((waiting) => waiting.row))
      if (results.length !== batch.length)
        throw new Error(`flush returned ${results.length} results for ${batch.length} rows`)
      for (const [index, waiting] of batch.entries()) waiting.resolve(results[index]!)
    } catch (error) {
      for (const waiting of batch) waiting.reject(error)
    } finally {
      this.#inFlight -= 1
      this.#schedule()
      if (this.#queue.length === 0 && this.#inFlight === 0)
        for (const resolve of this.#idle.splice(0)) resolve()
    }
  }
}
