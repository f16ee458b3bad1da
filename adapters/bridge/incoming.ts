import type { Delivery } from '../broker/port.ts'
import { readLegacyMessage } from '../wire/legacy-message.ts'
import type { LegacyMessage } from '../wire/legacy-message.ts'
import { statusKeys } from '../wire/mes-event.ts'

/** A delivery and what can be read of it. */
export interface Incoming {
  readonly delivery: Delivery
  /** undefined: unreadable. */
  readonly message: LegacyMessage | undefined
  /** It is in the inbox under this key, though nothing in it says so. */
  readonly storedAs?: Buffer | undefined
}

/** A message of ours in a queue of ours: what stands before it may also have gone the other way. */
export const markerHeader = 'x-strangler-marker'

export function readDelivery(delivery: Delivery): Incoming {
  return { delivery, message: readLegacyMessage(delivery.body) }
}

export function isMarker({ delivery }: Incoming): boolean {
  return delivery.exchange === '' && delivery.properties.headers?.[markerHeader] !== undefined
}

/** Nothing else has these keys: they say what kind of message of an order it is. */
export const submittedKey = 'order.submitted'
export const createdKey = 'order.created'

/** A price or another status, told by the MES. */
export function isStatus({ delivery, message }: Incoming): boolean {
  return message !== undefined && statusKeys.includes(delivery.routingKey)
}
