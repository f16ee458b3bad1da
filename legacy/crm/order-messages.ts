export type SubmittedOrder = {
  readonly id: string
  readonly source: string
  readonly client_id: number | null
  readonly material: string
  readonly quantity: number
  readonly comment: string | null
  readonly model_key: string | null
  readonly model_sha256: string | null
  readonly model_bytes: number | null
}

export function customerTier(loyaltyPoints: string | undefined): string {
  if (loyaltyPoints === undefined) return 'guest'
  const points = Number(loyaltyPoints)
  if (points >= 1000) return 'gold'
  return points >= 100 ? 'silver' : 'standard'
}

/** The order of the keys is part of what the MES gets. */
export function orderSubmitted(order: SubmittedOrder, tier: string, now: Date): Buffer {
  return asBody({
    orderId: order.id,
    source: order.source,
    status: 'SUBMITTED',
    occurredAt: now.toISOString(),
    clientId: order.client_id,
    customerTier: tier,
    material: order.material,
    quantity: order.quantity,
    comment: order.comment,
    model: { key: order.model_key, sha256: order.model_sha256, bytes: order.model_bytes },
  })
}

export function orderMoved(id: string, source: string, status: string, now: Date): Buffer {
  return asBody({ orderId: id, source, status, occurredAt: now.toISOString() })
}

function asBody(message: object): Buffer {
  return Buffer.from(JSON.stringify(message))
}
