/** The one timer of a request: each stage replaces the one before. */
export class StageTimer {
  #timer: NodeJS.Timeout | undefined

  after(ms: number, expire: () => void): void {
    this.clear()
    this.#timer = setTimeout(expire, ms)
  }

  /** Expires when `progress` has kept its value for `ms`, give or take a quarter. */
  whenIdle(ms: number, progress: () => number, expire: () => void): void {
    this.clear()
    let seen = progress()
    let quarters = 0
    this.#timer = setInterval(
      () => {
        const now = progress()
        quarters = now === seen ? quarters + 1 : 0
        seen = now
        if (quarters < 4) return
        this.clear()
        expire()
      },
      Math.max(1, ms / 4),
    )
  }

  clear(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }
}
