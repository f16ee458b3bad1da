import test from 'ava'

import { customerTier, orderSubmitted } from '../../legacy/crm/order-messages.ts'
import { orderSubmittedBody } from './order-submitted.ts'

test('our order.submitted is the one that CRM would have sent, byte for byte', (t) => {
  const at = new Date('2026-01-02T03:04:05.678Z')
  const clients = [
    [null, null],
    [17, '0.00'],
    [18, '99.99'],
    [19, '100.00'],
    [20, '999.99'],
    [21, '1000.00'],
  ] as const
  for (const [clientId, loyaltyPoints] of clients) {
    const order = {
      id: 'a0000000-0000-4000-8000-000000000001',
      source: 'shop',
      client_id: clientId,
      material: 'PLA',
      quantity: 3,
      comment: 'Grüße, „Ring“ "x"\n',
      model_key: 'models/ab/abcd',
      model_sha256: 'abcd',
      model_bytes: 571_184,
    }
    const theirs = orderSubmitted(order, customerTier(loyaltyPoints ?? undefined), at)
    const ours = orderSubmittedBody(
      {
        orderId: order.id,
        source: order.source,
        clientId,
        loyaltyPoints,
        material: order.material,
        quantity: order.quantity,
        comment: order.comment,
        modelKey: order.model_key,
        modelSha256: order.model_sha256,
        modelBytes: order.model_bytes,
      },
      at,
    )
    t.deepEqual(ours, theirs)
  }
})
