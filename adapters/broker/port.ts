/** Properties of AMQP 0-9-1 basic.properties, as they were on the wire; what a message does not carry is absent. */
export interface MessageProperties {
  readonly contentType?: string
  readonly contentEncoding?: string
  readonly headers?: Readonly<Record<string, unknown>>
  readonly deliveryMode?: number
  readonly priority?: number
  readonly correlationId?: string
  readonly replyTo?: string
  readonly expiration?: string
  readonly messageId?: string
  readonly timestamp?: number
  readonly type?: string
  readonly userId?: string
  readonly appId?: string
}

export interface Message {
  readonly exchange: string
  readonly routingKey: string
  readonly body: Buffer
  readonly properties: MessageProperties
}

export interface Delivery extends Message {
  readonly redelivered: boolean
  /** Names the delivery to the consumer that got it; means nothing to anyone else. */
  readonly tag: bigint
}

/**
 * A connection that publishes. It has a name of its own, so that somebody else can find out that it is gone. A name is in
 * use once: as long as its sender lives, opening another of that name is `refused`, so opening it proves the last one gone.
 * `publish` settles every message: resolved = a queue has it durably; rejected = a StranglerError whose `resendSafe` tells
 * whether the broker may have it (`broker_unreachable`, `message_unroutable`, `message_refused` it has not;
 * `confirm_unknown` it may). Messages published in one turn travel together. It never repeats a send by itself.
 */
export interface Sender {
  readonly name: string
  /** False once the connection is lost; a lost sender stays lost, a new one has a new name. */
  readonly alive: boolean
  publish(message: Message): Promise<void>
  close(): Promise<void>
}

/** The one consumer of a queue. `next` gives what is there, at least one delivery, in queue order, or [] after `close`. */
export interface Consumer {
  next(max: number): Promise<Delivery[]>
  ack(deliveries: readonly Delivery[]): Promise<void>
  requeue(deliveries: readonly Delivery[]): Promise<void>
  close(): Promise<void>
}

/** A binding of a queue to an exchange under a topic pattern. */
export interface Binding {
  readonly exchange: string
  readonly queue: string
  readonly pattern: string
}

export interface QueueDepth {
  readonly ready: number
  /** Delivered and not acknowledged; undefined where the broker does not tell. */
  readonly unacked: number | undefined
  readonly consumers: number
}

/** The legacy broker as a seam needs it. Two implementations: RabbitMQ (AMQP 0-9-1) and the queue in PostgreSQL. */
export interface Broker {
  readonly kind: 'rabbitmq' | 'postgres'
  /** @throws StranglerError `broker_unreachable`; `refused` while a sender of this name lives */
  openSender(name: string): Promise<Sender>
  /**
   * Exclusive: a second consumer of the same queue waits here until the first is gone, also through restarts of the broker.
   * When the signal aborts the wait, the consumer returned is closed.
   */
  openConsumer(queue: string, prefetch: number, signal?: AbortSignal): Promise<Consumer>
  /** True when the named sender's connection is known to be gone; false without proof, also when the broker can't be asked. */
  senderGone(name: string): Promise<boolean>
  /**
   * May this queue still hold (ready or unacknowledged) a message of the order that was published before `since`?
   * 'no' only on proof. `since` is the time, on this process's monotonic clock (performance.now()), from which on nothing
   * new of the order could have been published.
   */
  mayHold(queue: string, orderId: string, since: number): Promise<'no' | 'maybe'>
  depth(queue: string): Promise<QueueDepth>
  /** Existing bindings of the queue; undefined where the broker does not tell (RabbitMQ without its management API). */
  bindingsOf(queue: string): Promise<Binding[] | undefined>
  declareQueue(queue: string): Promise<void>
  declareTopicExchange(exchange: string): Promise<void>
  /** Deletes the queue only while nothing is in it; deleting what is not there is no error. @throws StranglerError `refused` */
  deleteQueue(queue: string): Promise<void>
  deleteExchange(exchange: string): Promise<void>
  /**
   * Adds and removes bindings as close to one step as the broker allows: one transaction in PostgreSQL (exact); one pipelined
   * channel in RabbitMQ, additions first, so that a message may come twice but never nowhere.
   */
  rebind(change: {
    readonly add: readonly Binding[]
    readonly remove: readonly Binding[]
  }): Promise<{ readonly exact: boolean }>
  close(): Promise<void>
}
