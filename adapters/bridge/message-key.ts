import { hash } from 'node:crypto'

import type { Delivery } from '../broker/port.ts'
import type { LegacyMessage } from '../wire/legacy-message.ts'

/**
 * What makes a message the same message when it comes again: the broker's message id, else the sender's time. Key and body
 * are part of it in both cases: a sender that puts the order's id into every message id must not lose all but the first.
 * undefined = neither is there, so the same bytes may be meant twice; see `recurringKey`.
 */
export function messageKey(
  delivery: Pick<Delivery, 'routingKey' | 'body' | 'properties'>,
  message: LegacyMessage | undefined,
): Buffer | undefined {
  const { messageId } = delivery.properties
  if (messageId !== undefined) {
    return digest('id', messageId, delivery.routingKey, delivery.body)
  }
  if (message?.occurredAt === undefined) return undefined
  return digest('time', message.orderId, delivery.routingKey, delivery.body, message.occurredAt)
}

/** The key of a message that may recur with the same bytes: it follows on the one before. */
export function recurringKey(
  delivery: Delivery,
  message: LegacyMessage | undefined,
  previousId: string | undefined,
): Buffer {
  return digest(
    'after',
    message?.orderId ?? '',
    delivery.routingKey,
    delivery.body,
    previousId ?? '',
  )
}

/** Of each part its length and its bytes: no two lists of parts are the same bytes. */
function digest(...parts: readonly (string | Buffer)[]): Buffer {
  const framed = parts.flatMap((part) => {
    const bytes = Buffer.from(part)
    return [Buffer.from(`${bytes.length}:`), bytes]
  })
  return hash('sha256', Buffer.concat(framed), 'buffer')
}
