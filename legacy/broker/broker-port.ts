export type MessageProperties = {
  readonly contentType?: string
  readonly messageId?: string
  readonly headers?: Readonly<Record<string, unknown>>
}

export type Delivery = {
  readonly exchange: string
  readonly routingKey: string
  readonly body: Buffer
  readonly properties: MessageProperties
  readonly redelivered: boolean
}

export type DeliveryHandler = (delivery: Delivery) => Promise<void>

/** What the stand-ins ask of a broker. They use its queues and never declare or bind anything. */
export type Broker = {
  /** Sent and forgotten: what is under way while the broker dies, or sent while it is away, is lost without a word. */
  publish(exchange: string, routingKey: string, body: Buffer, properties: MessageProperties): void
  /** Resolves when the broker has stored the message; rejects when that is not known. */
  publishConfirmed(
    exchange: string,
    routingKey: string,
    body: Buffer,
    properties: MessageProperties,
  ): Promise<void>
  /** One delivery after the other, in queue order; acknowledged when the handler resolves, requeued when it rejects. */
  consume(queue: string, prefetch: number, handler: DeliveryHandler): void
  /** Stops consuming, finishes the delivery in hand, flushes what was published, disconnects. */
  close(): Promise<void>
}

export type BrokerOptions = {
  readonly log: (event: string, details?: Readonly<Record<string, unknown>>) => void
  readonly requeueDelayMs?: number
}
