import test from 'ava'

import { acceptSpan, applySpan, deliverySpan, messageSpan, traceIdOf } from './order-trace.ts'

const orderId = '3f2b8c1e-9a4d-4e6f-8b7a-0123456789ab'
const submit = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'

test('without a trace of its submit an order has the one of its id, and its first span no parent', (t) => {
  const order = { orderId, gen: 0, traceparent: null }
  const traceId = orderId.replaceAll('-', '')
  t.is(traceIdOf(order), traceId)
  t.like(acceptSpan(order), { context: { traceId, sampled: true }, parentSpanId: undefined })
  // What can't be read is as good as none.
  t.deepEqual(acceptSpan({ ...order, traceparent: 'ff-1-2-3' }), acceptSpan(order))
})

test('each span names the one before it as its parent, in the trace of the submit', (t) => {
  const order = { orderId, gen: 2, traceparent: submit }
  const way = [
    acceptSpan(order),
    deliverySpan(order),
    messageSpan(order, '17'),
    applySpan(order, 17),
  ]
  t.deepEqual(
    way.map(({ parentSpanId }) => parentSpanId),
    ['b7ad6b7169203331', ...way.slice(0, -1).map(({ context }) => context.spanId)],
  )
  t.deepEqual(new Set(way.map(({ context }) => context.traceId)), new Set([traceIdOf(order)]))
  t.is(traceIdOf(order), '0af7651916cd43dd8448eb211c80319c')
  for (const { context } of way) t.regex(context.spanId, /^(?!0{16})[0-9a-f]{16}$/)
})

test('the spans of another delivery, another message or another order are others', (t) => {
  const order = { orderId, gen: 0, traceparent: submit }
  const ids = [
    deliverySpan(order),
    deliverySpan({ ...order, gen: 1 }),
    deliverySpan({ ...order, orderId: orderId.replace('3f', '4f') }),
    messageSpan(order, 1),
    messageSpan(order, 2),
    applySpan(order, 1),
  ].map(({ context }) => context.spanId)
  t.is(new Set(ids).size, ids.length)
})

test('who did not want to be sampled is not', (t) => {
  const order = { orderId, gen: 0, traceparent: `${submit.slice(0, -2)}00` }
  t.false(deliverySpan(order).context.sampled)
})
