import type { Pool } from 'pg'

import type { DeliveryHandler } from '../broker/broker-port.ts'
import type { Log } from '../log.ts'
import { MessageBody, UnreadableMessage } from '../message-body.ts'
import { isOrderStatus } from '../order-status.ts'

/** What the MES tells is written as it comes, whatever status the order has by then. */
export function mesEventsToShopDatabase(pool: Pool, log: Log): DeliveryHandler {
  return async (delivery) => {
    const message = MessageBody.of(delivery)
    const id = message.uuid('orderId')
    const { rowCount } = await write(pool, delivery.routingKey, id, message)
    if (rowCount === 0) log('event_without_effect', { orderId: id, event: delivery.routingKey })
  }
}

function write(pool: Pool, event: string, id: string, message: MessageBody) {
  switch (event) {
    case 'order.created': {
      const model = message.object('model')
      return pool.query(
        `INSERT INTO orders (id, source, external_id, status, model_key, model_sha256, model_bytes,
           material, quantity, comment, crm_sent_at)
         VALUES ($1, 'partner', $2, 'SUBMITTED', $3, $4, $5, $6, $7, $8, now())
         ON CONFLICT (id) DO NOTHING`,
        [
          id,
          message.optionalText('externalId'),
          model.text('key'),
          model.text('sha256'),
          model.number('bytes'),
          message.text('material'),
          message.number('quantity'),
          message.optionalText('comment'),
        ],
      )
    }
    case 'order.price_calculated':
      return pool.query(
        `UPDATE orders SET price = $2, currency = $3, status = 'PRICE_CALCULATED', updated_at = now() WHERE id = $1`,
        [id, message.number('price').toFixed(2), message.text('currency')],
      )
    case 'order.status_changed': {
      const status = message.text('status')
      if (!isOrderStatus(status)) throw new UnreadableMessage('status is none of the ten')
      return pool.query('UPDATE orders SET status = $2, updated_at = now() WHERE id = $1', [
        id,
        status,
      ])
    }
    default:
      throw new UnreadableMessage('unknown routing key')
  }
}
