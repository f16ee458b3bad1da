import { isOrderId } from '../../contracts/order.ts'

/** What a seam needs to know of a legacy message. The message itself travels on as the bytes it came as. */
export interface LegacyMessage {
  /** A UUID in lower case, however it was written: that is how databases give it back. */
  readonly orderId: string
  readonly status: string | undefined
  /** The sender's clock, as the sender wrote it. */
  readonly occurredAt: string | undefined
  readonly source: string | undefined
  readonly externalId: string | undefined
  readonly partner: string | undefined
}

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i
const strictUtf8 = new TextDecoder('utf-8', { fatal: true })

/** undefined = unreadable: no JSON object in UTF-8, or no order id in it that the ledger takes. */
export function readLegacyMessage(body: Buffer): LegacyMessage | undefined {
  let parsed: unknown
  try {
    parsed = JSON.parse(strictUtf8.decode(body))
  } catch {
    return undefined
  }
  if (typeof parsed !== 'object' || parsed === null) return undefined
  const fields = new Map<string, unknown>(Object.entries(parsed))
  const orderId = fields.get('orderId')
  if (!isOrderId(orderId)) return undefined
  return {
    orderId: uuid.test(orderId) ? orderId.toLowerCase() : orderId,
    status: word(fields.get('status')),
    occurredAt: word(fields.get('occurredAt')),
    source: word(fields.get('source')),
    externalId: word(fields.get('externalId')),
    partner: word(fields.get('partner')),
  }
}

/** The moment the sender names, when it is one that a database takes. */
export function sourceTime(message: LegacyMessage): string | undefined {
  const time = new Date(message.occurredAt ?? Number.NaN)
  const year = time.getUTCFullYear()
  return year >= 1970 && year <= 9999 ? time.toISOString() : undefined
}

/** A short text or a number; anything else is treated as not there. */
function word(value: unknown): string | undefined {
  if (typeof value === 'number') return String(value)
  return isOrderId(value) ? value : undefined
}
