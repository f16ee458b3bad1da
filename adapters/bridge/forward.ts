import { StranglerError } from '../../contracts/errors.ts'
import type { MessageProperties, Sender } from '../broker/port.ts'
import { forwardExchange, orderHeader } from '../wire/legacy-topology.ts'

export interface Forwardable {
  readonly orderId: string | undefined
  readonly routingKey: string
  readonly body: Buffer
  readonly properties: MessageProperties
  /** W3C trace context to travel along, where traces are collected. A message that brings its own keeps that. */
  readonly traceparent?: string | undefined
}

/** `again`: the broker has it not, or the message may safely come twice. */
export type ForwardOutcome =
  | { readonly result: 'taken' }
  | { readonly result: 'never'; readonly reason: string }
  | { readonly result: 'unknown' | 'again'; readonly reason: string }

/**
 * Sends the same bytes with the same properties on to the legacy queue; added is the header that names the order and, where
 * traces are collected, the one that names its trace.
 */
export async function forward(
  sender: Sender,
  queue: string,
  message: Forwardable,
): Promise<ForwardOutcome> {
  const { orderId, routingKey, body, properties, traceparent } = message
  const traced = traceparent === undefined ? {} : { traceparent }
  const named =
    orderId === undefined
      ? properties
      : { ...properties, headers: { ...traced, ...properties.headers, [orderHeader]: orderId } }
  try {
    await sender.publish({ exchange: forwardExchange(queue), routingKey, body, properties: named })
    return { result: 'taken' }
  } catch (error) {
    if (!(error instanceof StranglerError)) throw error
    const reason = error.message
    if (error.code === 'message_unroutable' || error.code === 'message_refused') {
      return { result: 'never', reason }
    }
    return { result: error.resendSafe ? 'again' : 'unknown', reason }
  }
}
