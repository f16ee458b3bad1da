/** Lets one loop sleep until something happens. A ring before the sleep is not lost. */
export class WakeUp {
  #rung = false
  #wake: (() => void) | undefined

  readonly ring = (): void => {
    this.#rung = true
    this.#wake?.()
  }

  /** Resolves at the next ring, at once if one came since the last wait, or after so many milliseconds. */
  async wait(atMostMs?: number): Promise<void> {
    if (!this.#rung) {
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#wake = resolve
      const timer = atMostMs === undefined ? undefined : setTimeout(resolve, atMostMs)
      await promise
      clearTimeout(timer)
      this.#wake = undefined
    }
    this.#rung = false
  }
}
