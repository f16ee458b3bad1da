import { setTimeout as delay } from 'node:timers/promises'

import type { Delivery, DeliveryHandler } from '../broker/broker-port.ts'
import type { Log } from '../log.ts'
import { MessageBody, UnreadableMessage } from '../message-body.ts'
import type { ArrivedOrder, OrdersInWork } from './orders-in-work.ts'

type Parts = {
  readonly orders: OrdersInWork
  readonly orderStored: () => void
  readonly consumeDelayMs: number
  readonly log: Log
}

export function crmMessagesToOrders(parts: Parts): DeliveryHandler {
  const { orders, orderStored, consumeDelayMs, log } = parts
  return async (delivery) => {
    const message = MessageBody.of(delivery)
    const orderId = message.uuid('orderId')
    switch (delivery.routingKey) {
      case 'order.submitted':
        if (consumeDelayMs > 0) await delay(consumeDelayMs)
        await orders.arrived(arrivedOrder(delivery, message))
        orderStored()
        return
      case 'order.approved':
        if (!(await orders.decided(orderId, 'PRICE_CALCULATED', 'MANUFACTURING_APPROVED'))) {
          log('decision_without_effect', { orderId, message: 'order.approved' })
        }
        return
      case 'order.closed':
        if (!(await orders.decided(orderId, 'SHIPPED', 'CLOSED'))) {
          log('decision_without_effect', { orderId, message: 'order.closed' })
        }
        return
      default:
        throw new UnreadableMessage('unknown routing key')
    }
  }
}

function arrivedOrder(delivery: Delivery, message: MessageBody): ArrivedOrder {
  const model = message.object('model')
  return {
    order_id: message.uuid('orderId'),
    source: message.text('source'),
    external_id: message.optionalText('externalId'),
    partner: message.optionalText('partner'),
    client_id: message.optionalNumber('clientId'),
    customer_tier: message.optionalText('customerTier'),
    model_key: model.text('key'),
    model_sha256: model.text('sha256'),
    model_bytes: model.number('bytes'),
    material: message.text('material'),
    quantity: message.number('quantity'),
    comment: message.optionalText('comment'),
    redelivered: delivery.redelivered,
  }
}
