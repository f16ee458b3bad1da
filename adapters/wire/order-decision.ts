export interface OrderDecision {
  readonly orderId: string
  readonly source: string
  /** What CRM decided. */
  readonly status: 'MANUFACTURING_APPROVED' | 'CLOSED'
}

export function orderDecisionKey(
  status: OrderDecision['status'],
): 'order.approved' | 'order.closed' {
  return status === 'CLOSED' ? 'order.closed' : 'order.approved'
}

/** The body of `order.approved` and `order.closed` exactly as CRM writes it: same keys, same order, same forms. */
export function orderDecisionBody(decision: OrderDecision, occurredAt: Date): Buffer {
  const { orderId, source, status } = decision
  return Buffer.from(
    JSON.stringify({ orderId, source, status, occurredAt: occurredAt.toISOString() }),
    'utf8',
  )
}
