import type { Log } from '../../runtime/log.ts'
import { BackOff } from '../broker/back-off.ts'
import type { Broker, Consumer } from '../broker/port.ts'
import { bridgeQueue } from '../wire/legacy-topology.ts'
import { BridgeWorker } from './bridge-worker.ts'
import type { BridgeWorkerOptions } from './bridge-worker.ts'

export interface AttachmentOptions extends BridgeWorkerOptions {
  readonly broker: Broker
  readonly log: Log
}

const idleMs = 1000
const batch = 500

/** One stay at our queue: from asking to be its consumer until it is let go. Another process may have it; then it waits. */
export class BridgeAttachment {
  readonly #options: AttachmentOptions
  readonly #ending = new AbortController()
  readonly #ended: Promise<void>
  #consumer: Consumer | undefined
  #waiting = false
  #lastAt = performance.now()

  constructor(options: AttachmentOptions) {
    this.#options = options
    this.#ended = this.#keepRunning()
  }

  /** This process is the one consumer. */
  get consuming(): boolean {
    return this.#consumer !== undefined
  }

  /** Nothing in hand and nothing new for a while. */
  get idle(): boolean {
    return this.#waiting && performance.now() - this.#lastAt > idleMs
  }

  /** What is in hand is finished first. */
  async stop(): Promise<void> {
    this.#ending.abort()
    if (this.#waiting) await this.#consumer?.close()
    await this.#ended
  }

  /** Whatever breaks, the queue is let go of and asked for again: attached and deaf would be the worst of both. */
  async #keepRunning(): Promise<void> {
    const { queue, log } = this.#options
    const { signal } = this.#ending
    const backOff = new BackOff()
    while (!signal.aborted) {
      try {
        await this.#run(backOff)
      } catch (error) {
        log.error('bridge_broke', { queue }, error)
        await this.#letGo().catch((again: unknown) => log.error('bridge_broke', { queue }, again))
        await backOff.pause(signal)
      }
    }
  }

  async #letGo(): Promise<void> {
    const consumer = this.#consumer
    this.#consumer = undefined
    this.#waiting = false
    await consumer?.close()
  }

  async #run(backOff: BackOff): Promise<void> {
    const { broker, queue, counters, log } = this.#options
    const { signal } = this.#ending
    const worker = new BridgeWorker(this.#options, signal)
    const consumer = await broker.openConsumer(bridgeQueue(queue), 2 * batch, signal)
    if (signal.aborted) return consumer.close()
    this.#consumer = consumer
    log.info('bridge_attached', { queue })
    while (!signal.aborted) {
      this.#waiting = true
      const deliveries = await consumer.next(batch)
      this.#waiting = false
      this.#lastAt = performance.now()
      await worker.handle(consumer, deliveries)
      backOff.reset()
    }
    await this.#letGo()
    log.info('bridge_detached', { queue, ...counters })
  }
}
