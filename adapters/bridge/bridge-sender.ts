import type { Log } from '../../runtime/log.ts'
import { BackOff } from '../broker/back-off.ts'
import type { Broker, Sender } from '../broker/port.ts'

/** A sender of this process and the moment from which on every earlier one of its name was gone. */
export interface OpenedSender {
  readonly sender: Sender
  readonly generation: number
  readonly openedAt: number
}

const idleMs = 30_000

/**
 * The bridge's connection for forwarding, one name per queue: while one process has it, no other can, and who opens it
 * knows that the last one is gone. It is given up when unused, so that a process that lost its consumer does not keep the
 * process that took over from sending.
 */
export class BridgeSender {
  readonly #broker: Broker
  readonly #name: string
  readonly #log: Log
  #opened: OpenedSender | undefined
  #opening: Promise<OpenedSender | undefined> | undefined
  #generation = 0
  #usedAt = 0

  constructor(broker: Broker, queue: string, log: Log) {
    this.#broker = broker
    this.#name = `bridge.${queue}`
    this.#log = log
  }

  /** The living sender, opened when necessary; undefined when the signal aborted first. */
  async open(signal: AbortSignal): Promise<OpenedSender | undefined> {
    this.#usedAt = performance.now()
    if (this.#opened?.sender.alive === true) return this.#opened
    this.#opening ??= this.#openNext(signal).finally(() => {
      this.#opening = undefined
    })
    return this.#opening
  }

  async closeWhenIdle(): Promise<void> {
    if (performance.now() - this.#usedAt > idleMs) await this.close()
  }

  async close(): Promise<void> {
    const closing = this.#opened
    this.#opened = undefined
    await closing?.sender.close()
  }

  async #openNext(signal: AbortSignal): Promise<OpenedSender | undefined> {
    const backOff = new BackOff()
    while (!signal.aborted) {
      try {
        const sender = await this.#broker.openSender(this.#name)
        this.#generation += 1
        this.#opened = { sender, generation: this.#generation, openedAt: performance.now() }
        return this.#opened
      } catch (error) {
        this.#log.warn('sender_waits', { sender: this.#name, reason: String(error) })
        await backOff.pause(signal)
      }
    }
    return undefined
  }
}
