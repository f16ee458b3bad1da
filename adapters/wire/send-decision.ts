import type { Broker } from '../broker/port.ts'
import { forwardExchange, orderHeader, ordersToMes } from './legacy-topology.ts'
import { orderDecisionBody, orderDecisionKey } from './order-decision.ts'
import type { OrderDecision } from './order-decision.ts'
import { crmProperties } from './order-submitted.ts'

export interface DecisionSender {
  /** Resolves when the broker has confirmed. */
  send(decision: OrderDecision): Promise<void>
  close(): Promise<void>
}

/**
 * Sends what CRM decided to the MES once more: through the forward exchange while a bridge stands, which would take it out
 * of CRM's exchange as a message of CRM; else through CRM's own.
 */
export async function openDecisionSender(
  broker: Pick<Broker, 'openSender'>,
  bridged: boolean,
): Promise<DecisionSender> {
  const exchange = bridged ? forwardExchange(ordersToMes.queue) : ordersToMes.exchange
  const sender = await broker.openSender(`strangler-redrive-${process.pid}-${Date.now()}`)
  return {
    send: (decision) =>
      sender.publish({
        exchange,
        routingKey: orderDecisionKey(decision.status),
        body: orderDecisionBody(decision, new Date()),
        properties: {
          ...crmProperties,
          headers: { ...crmProperties.headers, [orderHeader]: decision.orderId },
        },
      }),
    close: () => sender.close(),
  }
}
