import test from 'ava'

import { redriven } from './order-hops.ts'
import type { BridgeTimes } from './order-hops.ts'
import { wayBack } from './way-back.ts'

const price: BridgeTimes = {
  queue: 'crm.events',
  routingKey: 'order.price_calculated',
  status: 'PRICE_CALCULATED',
  price: '12.30',
  state: 'diverted',
  receivedAt: 1000,
  settledAt: 1002.5,
  inbox: { state: 'applied', reason: undefined, tries: 1, settledAt: 1010 },
}

test('a direct status goes over the bridge and the status inbox to the Shop, and adds up', (t) => {
  t.deepEqual(wayBack([price]), [
    {
      status: 'PRICE_CALCULATED',
      price: '12.30',
      redriven: false,
      to: 'Shop',
      hops: [
        { name: 'bridge crm.events', enter: 1000, leave: 1002.5, ms: 2.5 },
        { name: 'status inbox', enter: 1002.5, leave: 1010, ms: 7.5 },
      ],
      endToEndMs: 10,
      state: 'applied',
      reason: undefined,
      tries: 1,
    },
  ])
})

test('a legacy status ends at CRM; what is no status is not on the way back', (t) => {
  const legacy: BridgeTimes = { ...price, state: 'forwarded', inbox: undefined }
  const approved: BridgeTimes = { ...legacy, queue: 'mes.orders', routingKey: 'order.approved' }
  const created: BridgeTimes = { ...legacy, routingKey: 'order.created' }
  const [trip, ...rest] = wayBack([created, legacy, approved])
  t.like(trip, { to: 'CRM', state: 'forwarded', endToEndMs: 2.5 })
  t.deepEqual(rest, [])
})

test('one that waits is in the status inbox, with its reason', (t) => {
  const inbox = { state: 'waiting', reason: 'not_approved', tries: 4, settledAt: undefined }
  const [trip] = wayBack([{ ...price, inbox }])
  t.like(trip, { state: 'waiting', reason: 'not_approved', tries: 4, endToEndMs: 2.5 })
  t.deepEqual(trip!.hops.at(-1), {
    name: 'status inbox',
    enter: 1002.5,
    leave: undefined,
    ms: undefined,
  })
})

test('a redriven one begins in the status inbox', (t) => {
  const [trip] = wayBack([{ ...price, queue: redriven, routingKey: redriven, settledAt: 1000 }])
  t.true(trip!.redriven)
  t.deepEqual(
    trip!.hops.map(({ name, ms }) => [name, ms]),
    [['status inbox', 10]],
  )
})
