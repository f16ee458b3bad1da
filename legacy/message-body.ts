import type { Delivery } from './broker/broker-port.ts'
import { isUuid } from './uuid.ts'

export class UnreadableMessage extends Error {
  override readonly name = 'UnreadableMessage'
}

/** The fields of a message between CRM and MES. Anything that does not fit is unreadable as a whole. */
export class MessageBody {
  readonly #values: Readonly<Record<string, unknown>>

  private constructor(values: Readonly<Record<string, unknown>>) {
    this.#values = values
  }

  static of(delivery: Delivery): MessageBody {
    let body: unknown
    try {
      body = JSON.parse(delivery.body.toString('utf8'))
    } catch {
      throw new UnreadableMessage('the body is not JSON')
    }
    return MessageBody.#ofValue(body, 'the body')
  }

  static #ofValue(value: unknown, what: string): MessageBody {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new UnreadableMessage(`${what} is not an object`)
    }
    return new MessageBody({ ...value })
  }

  uuid(name: string): string {
    const value = this.#values[name]
    if (!isUuid(value)) throw new UnreadableMessage(`${name} is not a uuid`)
    return value
  }

  text(name: string): string {
    const value = this.optionalText(name)
    if (value === null) throw new UnreadableMessage(`${name} is missing`)
    return value
  }

  optionalText(name: string): string | null {
    const value = this.#values[name] ?? null
    if (value !== null && (typeof value !== 'string' || value.includes('\u0000'))) {
      throw new UnreadableMessage(`${name} is not a text`)
    }
    return value
  }

  number(name: string): number {
    const value = this.optionalNumber(name)
    if (value === null) throw new UnreadableMessage(`${name} is missing`)
    return value
  }

  optionalNumber(name: string): number | null {
    const value = this.#values[name] ?? null
    if (value !== null && typeof value !== 'number') {
      throw new UnreadableMessage(`${name} is not a number`)
    }
    return value
  }

  object(name: string): MessageBody {
    return MessageBody.#ofValue(this.#values[name], name)
  }
}
