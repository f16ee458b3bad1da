import type { Broker } from '../broker/broker-port.ts'

const properties = { contentType: 'application/json', headers: { 'x-sender': 'crm' } }

export type OrderSender = (routingKey: string, body: Buffer) => void

/** Whoever calls this has already written: what the broker does not get now, it never gets. */
export function orderSender(broker: Broker): OrderSender {
  return (routingKey, body) => broker.publish('crm.orders', routingKey, body, properties)
}
