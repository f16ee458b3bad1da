/** Raised while nobody waits, it is remembered for the next one who does. */
export class Signal {
  #raised = false
  #wake: (() => void) | undefined

  raise(): void {
    this.#raised = true
    this.#wake?.()
  }

  async wait(longestMs: number): Promise<void> {
    if (!this.#raised) {
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#wake = resolve
      const timer = setTimeout(resolve, longestMs)
      await promise
      clearTimeout(timer)
      this.#wake = undefined
    }
    this.#raised = false
  }
}
