import { setTimeout as delay } from 'node:timers/promises'

import type { Channel, ConsumeMessage } from 'amqplib'

import type { BrokerOptions, DeliveryHandler, MessageProperties } from './broker-port.ts'

/** The broker pushes up to `prefetch` deliveries; they are handled one after the other. */
export class AmqpConsumer {
  readonly #queue: string
  readonly #prefetch: number
  readonly #handler: DeliveryHandler
  readonly #options: BrokerOptions
  #stopped = false
  #channel: Channel | undefined
  #held: ConsumeMessage[] = []
  #working: Promise<void> | undefined

  constructor(queue: string, prefetch: number, handler: DeliveryHandler, options: BrokerOptions) {
    this.#queue = queue
    this.#prefetch = prefetch
    this.#handler = handler
    this.#options = options
  }

  async attach(openChannel: () => Promise<Channel>): Promise<void> {
    // Two handlers at once would break the order: the last delivery of the lost channel ends first.
    this.#held = []
    await this.#working
    if (this.#stopped) return
    const channel = await openChannel()
    this.#channel = channel
    this.#held = []
    await channel.prefetch(this.#prefetch)
    await channel.consume(this.#queue, (message) => {
      // null: the queue was deleted. Reconnecting finds it when it is back.
      if (message === null) channel.emit('error', new Error(`queue ${this.#queue} is gone`))
      else this.#take(channel, message)
    })
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#held = []
    await this.#working
    // Closing the channel gives back what was held.
    await this.#channel?.close().catch(() => {})
  }

  #take(channel: Channel, message: ConsumeMessage): void {
    if (this.#stopped || channel !== this.#channel) return
    this.#held.push(message)
    this.#working ??= this.#handleHeld(channel)
  }

  async #handleHeld(channel: Channel): Promise<void> {
    for (let message = this.#held.shift(); message; message = this.#held.shift()) {
      try {
        await this.#handler({
          exchange: message.fields.exchange,
          routingKey: message.fields.routingKey,
          body: message.content,
          properties: propertiesOf(message),
          redelivered: message.fields.redelivered,
        })
        onOpenChannel(() => channel.ack(message))
      } catch (error) {
        this.#options.log('delivery_requeued', { queue: this.#queue, reason: String(error) })
        await delay(this.#options.requeueDelayMs ?? 250)
        // Everything held goes back with it, or the later ones would overtake it.
        this.#held = []
        onOpenChannel(() => channel.nackAll(true))
      }
    }
    this.#working = undefined
  }
}

/** On a closed channel there is nothing to acknowledge: the broker delivers the message again. */
function onOpenChannel(settle: () => void): void {
  try {
    settle()
  } catch (error) {
    if (!(error instanceof Error) || error.name !== 'IllegalOperationError') throw error
  }
}

function propertiesOf(message: ConsumeMessage): MessageProperties {
  const { contentType, messageId, headers } = message.properties
  return {
    ...(contentType === undefined ? {} : { contentType: String(contentType) }),
    ...(messageId === undefined ? {} : { messageId: String(messageId) }),
    headers: headers ?? {},
  }
}
