import { createHash } from 'node:crypto'

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

function digest(...parts: (string | Buffer)[]): Buffer {
  const hash = createHash('sha256')
  for (const part of parts) {
    const bytes = Buffer.from(part)
    hash.update(`${bytes.length}:`).update(bytes)
  }
  return hash.digest()
}
