/** How many requests of a class are with the upstream at once, and how many may wait for that. */
export class Slots {
  readonly #limit: number
  readonly #waitingLimit: number
  readonly #waiting = new Set<() => void>()
  #taken = 0

  constructor(limit: number, waitingLimit: number) {
    this.#limit = limit
    this.#waitingLimit = waitingLimit
  }

  get taken(): number {
    return this.#taken
  }

  get waiting(): number {
    return this.#waiting.size
  }

  /** Calls `begin` now or in turn. False when too many wait: then it never will. */
  enter(begin: () => void): boolean {
    if (this.#taken < this.#limit) {
      this.#taken += 1
      begin()
      return true
    }
    if (this.#waiting.size >= this.#waitingLimit) return false
    this.#waiting.add(begin)
    return true
  }

  /** For whoever called `enter` with true: gives the place back, in the queue or in the run. */
  leave(begin: () => void): void {
    if (this.#waiting.delete(begin)) return
    const [next] = this.#waiting
    if (next === undefined) {
      this.#taken -= 1
      return
    }
    this.#waiting.delete(next)
    next()
  }
}
