import type { MesOrder } from './mes-order.ts'

export type OrderEvent = {
  readonly orderId: string
  readonly routingKey: 'order.created' | 'order.price_calculated' | 'order.status_changed'
  readonly body: Buffer
}

export function orderCreated(order: MesOrder, now: Date): OrderEvent {
  const body = JSON.stringify({
    orderId: order.order_id,
    source: 'partner',
    status: 'SUBMITTED',
    occurredAt: now.toISOString(),
    partner: order.partner,
    externalId: order.external_id,
    material: order.material,
    quantity: order.quantity,
    comment: order.comment,
    model: { key: order.model_key, sha256: order.model_sha256, bytes: order.model_bytes },
  })
  return { orderId: order.order_id, routingKey: 'order.created', body: Buffer.from(body) }
}

export function statusChanged(order: MesOrder, now: Date): OrderEvent {
  const body = JSON.stringify(moved(order, now))
  return { orderId: order.order_id, routingKey: 'order.status_changed', body: Buffer.from(body) }
}

/** The price is a number with two decimals, as a C# decimal is written: JSON.stringify would make 12.30 a 12.3. */
export function priceCalculated(order: MesOrder, price: string, now: Date): OrderEvent {
  if (!/^\d+\.\d{2}$/u.test(price)) throw new RangeError(`no price: ${price}`)
  const head = JSON.stringify(moved(order, now)).slice(0, -1)
  const body = `${head},"price":${price},"currency":"EUR"}`
  return { orderId: order.order_id, routingKey: 'order.price_calculated', body: Buffer.from(body) }
}

function moved(order: MesOrder, now: Date) {
  return {
    orderId: order.order_id,
    source: order.source,
    status: order.status,
    occurredAt: now.toISOString(),
  }
}
