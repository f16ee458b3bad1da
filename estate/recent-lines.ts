import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'

/** The last lines of some output streams, and a place to listen to new ones. */
export class RecentLines {
  readonly #lines: string[] = []
  readonly #listeners = new Set<(line: string) => void>()
  readonly #keep: number

  constructor(keep = 400) {
    this.#keep = keep
  }

  read(stream: Readable): void {
    createInterface({ input: stream, crlfDelay: Infinity }).on('line', (line) => this.#add(line))
    // A reset pipe is the end of the output, not of us.
    stream.on('error', () => {})
  }

  /** Calls the listener for each new line until the returned function is called. */
  onLine(listener: (line: string) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  last(count = this.#keep): string[] {
    return this.#lines.slice(-count)
  }

  #add(line: string): void {
    this.#lines.push(line)
    if (this.#lines.length > this.#keep) this.#lines.shift()
    for (const listener of this.#listeners) listener(line)
  }
}
