/** What a message of the MES says about an order's status and price. */
export interface MesEvent {
  readonly status: string | undefined
  /** The digits as the MES wrote them: a number read and written again may lose them. */
  readonly price: string | undefined
  readonly currency: string | undefined
}

export const priceKey = 'order.price_calculated'
export const statusKey = 'order.status_changed'
export const statusKeys: readonly string[] = [priceKey, statusKey]

/** @param body JSON, as `readLegacyMessage` has found it readable */
export function readMesEvent(routingKey: string, body: Buffer): MesEvent {
  const fields = fieldsOf(body)
  const status = text(fields.get('status'))
  if (routingKey !== priceKey) return { status, price: undefined, currency: undefined }
  // A price is a status of its own: that is how CRM reads it, whatever the message says beside it.
  return {
    status: 'PRICE_CALCULATED',
    price: text(fields.get('price')) ?? '',
    currency: text(fields.get('currency')),
  }
}

// Without the byte order mark that a sender may have put first, as `readLegacyMessage` reads it.
const utf8 = new TextDecoder()

/** The top level of the object; numbers as the text that they were written as. */
function fieldsOf(body: Buffer): Map<string, unknown> {
  const parsed = parse(utf8.decode(body))
  return new Map(typeof parsed === 'object' && parsed !== null ? Object.entries(parsed) : [])
}

/**
 * What is readable must be readable here too: a message that can't be settled is tried for ever, and everything waits behind it.
 * The reviver runs out of stack in what is nested some thousand deep; then a number has lost its text, and is no price.
 */
function parse(json: string): unknown {
  try {
    return JSON.parse(json, keepDigits)
  } catch {
    return JSON.parse(json)
  }
}

function keepDigits(_key: string, value: unknown, context?: { readonly source?: string }): unknown {
  return typeof value === 'number' ? (context?.source ?? String(value)) : value
}

/** Short enough to be shown, and nothing that a database would refuse. */
function text(value: unknown): string | undefined {
  return typeof value === 'string' && value.length <= 200 && !value.includes('\0')
    ? value
    : undefined
}
