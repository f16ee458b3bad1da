import { BackOff } from './back-off.ts'
import type { BrokerOptions } from './broker-port.ts'

export type Session = {
  /** Resolves when the connection is gone, for whatever reason. */
  readonly lost: Promise<void>
  end(): Promise<void>
}

/** Keeps one session open: opens the next, with back-off, when the last was lost. */
export class Link<S extends Session> {
  readonly #open: () => Promise<S>
  readonly #stopping = new AbortController()
  readonly #log: BrokerOptions['log']
  readonly #name: string
  #session: S | undefined
  #running: Promise<void> = Promise.resolve()

  constructor(name: string, open: () => Promise<S>, log: BrokerOptions['log']) {
    this.#name = name
    this.#open = open
    this.#log = log
  }

  get session(): S | undefined {
    return this.#session
  }

  /** Resolves with the first session; a signal given up on rejects. */
  start(signal?: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const giveUp = () => {
      this.#stopping.abort()
      reject(new Error(`gave up connecting ${this.#name}`))
    }
    signal?.addEventListener('abort', giveUp, { once: true })
    if (signal?.aborted) giveUp()
    this.#running = this.#keepOpen(() => {
      signal?.removeEventListener('abort', giveUp)
      resolve()
    })
    return promise
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#session?.end()
    await this.#running
  }

  async #keepOpen(opened: () => void): Promise<void> {
    const backOff = new BackOff()
    const { signal } = this.#stopping
    while (!signal.aborted) {
      try {
        const session = await this.#open()
        if (signal.aborted) {
          await session.end()
          return
        }
        this.#session = session
        backOff.reset()
        opened()
        await session.lost
        this.#session = undefined
        if (!signal.aborted) this.#log('broker_lost', { link: this.#name })
      } catch (error) {
        this.#log('broker_away', { link: this.#name, reason: String(error) })
      }
      await backOff.pause(signal)
    }
  }
}
