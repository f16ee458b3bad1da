import { randomUUID } from 'node:crypto'

import test from 'ava'

import { orderMoved } from '../../legacy/crm/order-messages.ts'
import { orderDecisionBody } from './order-decision.ts'

test('a decision is, byte for byte, what CRM writes', (t) => {
  const now = new Date('2026-03-29T00:59:59.007Z')
  for (const status of ['MANUFACTURING_APPROVED', 'CLOSED'] as const) {
    for (const source of ['shop', 'partner']) {
      const orderId = randomUUID()
      t.deepEqual(
        orderDecisionBody({ orderId, source, status }, now),
        orderMoved(orderId, source, status, now),
      )
    }
  }
})
