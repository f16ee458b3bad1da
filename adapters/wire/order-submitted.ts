/** An order as the Shop's outbox captured it, with what CRM would have looked up about its client. */
export interface SubmittedOrder {
  readonly orderId: string
  readonly source: string
  readonly clientId: number | null
  /** Exact decimal text; null for a guest. */
  readonly loyaltyPoints: string | null
  readonly material: string
  readonly quantity: number
  readonly comment: string | null
  readonly modelKey: string
  readonly modelSha256: string
  readonly modelBytes: number
}

export const orderSubmittedKey = 'order.submitted'

/** The properties CRM puts on its messages, byte for byte. */
export const crmProperties = {
  contentType: 'application/json',
  deliveryMode: 2,
  headers: { 'x-sender': 'crm' },
} as const

/** The body of `order.submitted` exactly as CRM writes it: same keys, same order, same forms. */
export function orderSubmittedBody(order: SubmittedOrder, sentAt: Date): Buffer {
  return Buffer.from(
    JSON.stringify({
      orderId: order.orderId,
      source: order.source,
      status: 'SUBMITTED',
      occurredAt: sentAt.toISOString(),
      clientId: order.clientId,
      customerTier: customerTier(order),
      material: order.material,
      quantity: order.quantity,
      comment: order.comment,
      model: { key: order.modelKey, sha256: order.modelSha256, bytes: order.modelBytes },
    }),
    'utf8',
  )
}

function customerTier(order: SubmittedOrder): 'guest' | 'standard' | 'silver' | 'gold' {
  if (order.clientId === null) return 'guest'
  const points = Number(order.loyaltyPoints ?? 0)
  if (points >= 1000) return 'gold'
  return points >= 100 ? 'silver' : 'standard'
}
