import test from 'ava'

import { customerTier, orderSubmitted } from '../../legacy/crm/order-messages.ts'
import { compareSubmitted, submittedFields } from './compare-submitted.ts'
import { orderSubmittedBody } from './order-submitted.ts'
import { sameNumber } from './same-number.ts'

const order = {
  id: 'a0000000-0000-4000-8000-000000000001',
  source: 'shop',
  client_id: 17,
  material: 'PLA',
  quantity: 3,
  comment: null,
  model_key: 'models/ab/abcd',
  model_sha256: 'abcd',
  model_bytes: 571_184,
}
const ours = {
  routingKey: 'order.submitted',
  body: orderSubmittedBody(
    {
      orderId: order.id,
      source: order.source,
      clientId: order.client_id,
      loyaltyPoints: '100.00',
      material: order.material,
      quantity: order.quantity,
      comment: order.comment,
      modelKey: order.model_key,
      modelSha256: order.model_sha256,
      modelBytes: order.model_bytes,
    },
    new Date('2026-01-02T03:04:05Z'),
  ),
}
const sent = {
  routingKey: 'order.submitted',
  body: orderSubmitted(order, customerTier('100.00'), new Date('2026-01-02T03:04:09Z')),
  properties: {
    contentType: 'application/json',
    deliveryMode: 2,
    messageId: 'm',
    headers: { 'x-sender': 'crm' },
  },
}

function sentWith(change: (text: string) => string) {
  return { ...sent, body: Buffer.from(change(sent.body.toString())) }
}

test('what CRM sends is what we would send; its clock and its message id do not count', (t) => {
  t.deepEqual(compareSubmitted(ours, sent), [])
})

test('every field that differs is named with both values', (t) => {
  const cases: [(text: string) => string, string, string | undefined, string | undefined][] = [
    [(text) => text.replace('"quantity":3', '"quantity":4'), 'quantity', '3', '4'],
    [(text) => text.replace('"quantity":3', '"quantity":"3"'), 'quantity', '3', '"3"'],
    [(text) => text.replace('"bytes":571184', '"bytes":571185'), 'model.bytes', '571184', '571185'],
    [(text) => text.replace('"silver"', '"gold"'), 'customerTier', '"silver"', '"gold"'],
    [(text) => text.replace('"comment":null,', ''), 'comment', 'null', undefined],
    [(text) => text.replace('"source"', '"rush":true,"source"'), 'rush', undefined, 'true'],
    [() => '[', 'message', 'readable', 'unreadable'],
  ]
  for (const [change, field, our, their] of cases) {
    t.deepEqual(compareSubmitted(ours, sentWith(change)), [{ field, ours: our, theirs: their }])
  }
  t.deepEqual(
    compareSubmitted(
      ours,
      sentWith((text) => text.replace(':571184', ':571184.0')),
    ),
    [],
  )
})

test('key, content type and headers count', (t) => {
  t.deepEqual(
    compareSubmitted(ours, {
      ...sent,
      routingKey: 'order.sent',
      properties: { contentType: 'text/json', headers: { 'x-sender': 'crm2', 'x-shift': 1 } },
    }).map(({ field, theirs }) => [field, theirs]),
    [
      ['routing_key', 'order.sent'],
      ['content_type', 'text/json'],
      ['header x-sender', '"crm2"'],
      ['header x-shift', '1'],
    ],
  )
  t.deepEqual(compareSubmitted(undefined, sent), [
    { field: 'message', ours: undefined, theirs: 'readable' },
  ])
})

test('the names that a person may accept are those of the message', (t) => {
  const nothing = { ...sent, routingKey: '', body: Buffer.from('{}'), properties: {} }
  t.deepEqual(
    ['message', ...compareSubmitted(ours, nothing).map(({ field }) => field)].toSorted(),
    [...submittedFields].toSorted(),
  )
})

test('numbers are compared as numbers, to the last digit', (t) => {
  for (const [a, b] of [
    ['12.30', '12.3'],
    ['0', '0.00'],
    ['1e3', '1000'],
    ['-0.50', '-5e-1'],
    ['007', '7'],
  ] as const) {
    t.true(sameNumber(a, b), `${a} ${b}`)
  }
  for (const [a, b] of [
    ['12.30', '12.31'],
    ['12345678901234567890.01', '12345678901234567890.02'],
    ['1', '-1'],
    ['10', '1'],
    ['"3"', '3'],
    ['NaN', '0'],
  ] as const) {
    t.false(sameNumber(a, b), `${a} ${b}`)
  }
})
