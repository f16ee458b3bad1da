import type { ConfirmChannel, Message as ReturnedMessage } from 'amqplib'

import { StranglerError } from '../../contracts/errors.ts'
import type { Log } from '../../runtime/log.ts'
import { openAmqpConnection, replyCode } from './amqp-connection.ts'
import type { AmqpConnection } from './amqp-connection.ts'
import { toWire } from './amqp-properties.ts'
import { confirmOverdue } from './confirm-overdue.ts'
import type { Message, MessageProperties, Sender } from './port.ts'
import { checkSenderName, senderInUse } from './sender-name.ts'

interface Unconfirmed {
  readonly message: Message
  readonly sentAt: number
  returned: boolean
  settle(failure?: StranglerError): void
}

/** The broker's own default limit. */
const maxBodyBytes = 134_217_728

/** Exclusive to the sender's connection: who can't get at it knows that the connection lives. */
export function senderQueue(name: string): string {
  return `strangler.sender.${name}`
}

/** Publishes on one confirm channel of one connection, pipelined. With the channel the sender is lost: one way to end, not two. */
export class AmqpSender implements Sender {
  readonly name: string
  readonly #connection: AmqpConnection
  readonly #channel: ConfirmChannel
  readonly #log: Log
  readonly #exchanges = new Map<string, Promise<StranglerError | undefined>>()
  /** In the order of publishing. */
  readonly #unconfirmed = new Set<Unconfirmed>()
  readonly #watch: NodeJS.Timeout
  #alive = true
  #idle: (() => void)[] = []

  private constructor(
    name: string,
    connection: AmqpConnection,
    channel: ConfirmChannel,
    options: { confirmTimeoutMs: number; log: Log },
  ) {
    this.name = name
    this.#connection = connection
    this.#channel = channel
    this.#log = options.log
    channel.on('return', (message) => this.#onReturn(message))
    channel.on('close', () => this.#lose('channel closed'))
    connection.onLost((reason) => this.#lose(reason))
    this.#watch = setInterval(() => this.#checkAge(options.confirmTimeoutMs), 500)
    this.#watch.unref()
  }

  static async open(
    url: string,
    name: string,
    options: { confirmTimeoutMs: number; log: Log },
  ): Promise<AmqpSender> {
    checkSenderName(name)
    const connection = await openAmqpConnection(url, `strangler sender ${name}`, options.log)
    try {
      const declaring = await connection.openChannel()
      await declaring.assertQueue(senderQueue(name), { exclusive: true, durable: false })
      return new AmqpSender(name, connection, await connection.openConfirmChannel(), options)
    } catch (error) {
      await connection.close()
      if (replyCode(error) === 405) throw senderInUse(name)
      throw new StranglerError('broker_unreachable', String(error), error)
    }
  }

  get alive(): boolean {
    return this.#alive
  }

  async publish(message: Message): Promise<void> {
    if (message.body.length > maxBodyBytes) {
      throw new StranglerError('message_refused', `${message.body.length} bytes`)
    }
    // The broker closes the channel, and with it everything unconfirmed, over one unknown exchange: ask first, once.
    const missing = await this.#exchange(message.exchange)
    if (missing !== undefined) throw missing
    const failure = await this.#send(message)
    if (failure !== undefined) throw failure
  }

  async close(): Promise<void> {
    if (this.#alive && this.#unconfirmed.size > 0) {
      await new Promise<void>((resolve) => {
        this.#idle.push(resolve)
      })
    }
    this.#lose('closed')
    await this.#connection.close()
  }

  #send(message: Message): Promise<StranglerError | undefined> {
    return new Promise((resolve) => {
      if (!this.#alive) return resolve(new StranglerError('broker_unreachable', 'connection lost'))
      if (this.#connection.blocked) {
        return resolve(
          new StranglerError('broker_unreachable', 'blocked by an alarm of the broker'),
        )
      }
      const sent: Unconfirmed = {
        message,
        sentAt: performance.now(),
        returned: false,
        settle: resolve,
      }
      try {
        const options = toWire(this.#withOwnUser(message.properties))
        const { exchange, routingKey, body } = message
        this.#channel.publish(exchange, routingKey, body, options, (error: unknown) =>
          this.#onConfirm(sent, error),
        )
        this.#unconfirmed.add(sent)
      } catch (error) {
        // Thrown before a byte of it was written: encoding fails first.
        const gone = error instanceof Error && error.name === 'IllegalOperationError'
        resolve(
          new StranglerError(gone ? 'broker_unreachable' : 'message_refused', String(error), error),
        )
      }
    })
  }

  /** A user id other than the connection's closes the channel (406), with everything unconfirmed on it. */
  #withOwnUser(properties: MessageProperties): MessageProperties {
    const { userId, ...rest } = properties
    if (userId === undefined || userId === this.#connection.user) return properties
    this.#log.warn('user_id_dropped', { sender: this.name, userId })
    return rest
  }

  #exchange(exchange: string): Promise<StranglerError | undefined> {
    if (exchange === '') return Promise.resolve(undefined)
    const known = this.#exchanges.get(exchange)
    if (known !== undefined) return known
    const asked = this.#askForExchange(exchange)
    this.#exchanges.set(exchange, asked)
    void asked.then((missing) => missing !== undefined && this.#exchanges.delete(exchange))
    return asked
  }

  async #askForExchange(exchange: string): Promise<StranglerError | undefined> {
    try {
      const channel = await this.#connection.openChannel()
      await channel.checkExchange(exchange)
      await channel.close()
      return undefined
    } catch (error) {
      return replyCode(error) === 404
        ? new StranglerError('message_unroutable', `no exchange ${exchange}`, error)
        : new StranglerError('broker_unreachable', String(error), error)
    }
  }

  /**
   * A return names no delivery tag. It comes before the confirm of the same message and in the order of publishing, so it
   * belongs to the first unconfirmed message that looks like it; messages that look alike are routed alike.
   */
  #onReturn({ fields, content }: ReturnedMessage): void {
    for (const sent of this.#unconfirmed) {
      const { exchange, routingKey, body } = sent.message
      if (sent.returned || exchange !== fields.exchange || routingKey !== fields.routingKey)
        continue
      if (!body.equals(content)) continue
      sent.returned = true
      return
    }
    this.#lose('the broker returned a message that nobody sent')
  }

  #onConfirm(sent: Unconfirmed, error: unknown): void {
    if (!this.#unconfirmed.delete(sent)) return
    const { exchange, routingKey } = sent.message
    if (error instanceof Error) {
      const code = error.message === 'message nacked' ? 'message_nacked' : 'confirm_unknown'
      sent.settle(new StranglerError(code, error.message, error))
    } else {
      const unroutable = new StranglerError('message_unroutable', `${exchange} ${routingKey}`)
      sent.settle(sent.returned ? unroutable : undefined)
    }
    this.#settleIdle()
  }

  #checkAge(confirmTimeoutMs: number): void {
    const [oldest] = this.#unconfirmed
    if (oldest === undefined) return
    const { blocked, unblockedAt } = this.#connection
    const awaited = { sentAt: oldest.sentAt, blocked, unblockedAt }
    if (confirmOverdue(awaited, performance.now(), confirmTimeoutMs))
      this.#lose('no confirm in time')
  }

  #lose(reason: string): void {
    if (!this.#alive) return
    this.#alive = false
    clearInterval(this.#watch)
    if (this.#unconfirmed.size > 0) {
      this.#log.warn('sender_lost', {
        sender: this.name,
        reason,
        unconfirmed: this.#unconfirmed.size,
      })
    }
    for (const sent of this.#unconfirmed) sent.settle(new StranglerError('confirm_unknown', reason))
    this.#unconfirmed.clear()
    this.#settleIdle()
    void this.#connection.close()
  }

  #settleIdle(): void {
    if (this.#unconfirmed.size === 0) for (const resolve of this.#idle.splice(0)) resolve()
  }
}
