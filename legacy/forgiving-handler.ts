import type { DeliveryHandler } from './broker/broker-port.ts'
import { isRefusedByDatabase } from './database-failure.ts'
import type { Log } from './log.ts'
import { UnreadableMessage } from './message-body.ts'

/** What can never be handled is logged and acknowledged; every other failure gives the message back. */
export function forgiving(handler: DeliveryHandler, log: Log): DeliveryHandler {
  return async (delivery) => {
    try {
      await handler(delivery)
    } catch (error) {
      if (!(error instanceof UnreadableMessage) && !isRefusedByDatabase(error)) throw error
      log('message_dropped', { routingKey: delivery.routingKey, reason: String(error) })
    }
  }
}
