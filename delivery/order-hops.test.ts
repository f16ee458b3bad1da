import test from 'ava'

import { orderHops, redriven } from './order-hops.ts'
import type { BridgeTimes, Hop, TransportTimes } from './order-hops.ts'

const direct: TransportTimes = {
  path: 'direct',
  state: 'delivered',
  submittedAt: 1000.25,
  acceptedAt: 1020.5,
  sendingAt: 1025.75,
  deliveredAt: 1030.125,
}

function mail(
  queue: string,
  routingKey: string,
  status: string | undefined,
  receivedAt: number,
  settledAt?: number,
  state = 'forwarded',
): BridgeTimes {
  return { queue, routingKey, status, state, receivedAt, settledAt }
}

const wholeLife = [
  mail('crm.events', 'order.price_calculated', 'PRICE_CALCULATED', 3000, 3002.5),
  mail('mes.orders', 'order.approved', 'MANUFACTURING_APPROVED', 9000, 9001),
  mail('crm.events', 'order.status_changed', 'MANUFACTURING_STARTED', 12_000, 12_001),
  mail('crm.events', 'order.status_changed', 'MANUFACTURING_COMPLETED', 15_000, 15_001),
  mail('crm.events', 'order.status_changed', 'PACKAGING', 16_000, 16_001),
  mail('crm.events', 'order.status_changed', 'SHIPPED', 17_000, 17_001),
  mail('mes.orders', 'order.closed', 'CLOSED', 18_000, 18_001.5),
]

function sum(hops: readonly Hop[]): number {
  return hops.reduce((total, hop) => total + (hop.ms ?? 0), 0)
}

test('a whole life is one chain without a gap, and adds up', (t) => {
  const hops = orderHops(direct, wholeLife)
  t.deepEqual(
    hops.map((hop) => hop.name),
    [
      'relay',
      'doorbell',
      'courier',
      'MES calculates',
      'bridge crm.events',
      'waits for seller',
      'bridge mes.orders',
      'waits for operator',
      'bridge crm.events',
      'manufacturing',
      'bridge crm.events',
      'waits for packing',
      'bridge crm.events',
      'packing',
      'bridge crm.events',
      'waits for closing in CRM',
      'bridge mes.orders',
    ],
  )
  for (const [index, hop] of hops.entries()) {
    t.is(hop.enter, index === 0 ? direct.submittedAt : hops[index - 1]!.leave!)
    t.true(hop.ms! >= 0)
  }
  t.is(hops.at(-1)!.leave, 18_001.5)
  t.true(Math.abs(sum(hops) - (18_001.5 - direct.submittedAt)) < 1)
})

test('the legacy path begins at CRM, and the look-on of the ledger is no hop of it', (t) => {
  const legacy = { ...direct, path: 'legacy', sendingAt: undefined, deliveredAt: 5002 } as const
  const hops = orderHops(legacy, [
    mail('mes.orders', 'order.submitted', 'SUBMITTED', 5000, 5001),
    ...wholeLife.map((each) => ({
      ...each,
      receivedAt: each.receivedAt + 5000,
      settledAt: each.settledAt! + 5000,
    })),
  ])
  t.deepEqual(
    hops.slice(0, 3).map((hop) => hop.name),
    ['CRM takes it up', 'bridge mes.orders', 'MES calculates'],
  )
  t.true(Math.abs(sum(hops) - (23_001.5 - legacy.submittedAt)) < 1)
})

test('a price before the confirm: no hop is negative, the sum holds', (t) => {
  const hops = orderHops({ ...direct, deliveredAt: 4000 }, wholeLife)
  t.true(hops.every((hop) => hop.ms === undefined || hop.ms >= 0))
  t.true(Math.abs(sum(hops) - (18_001.5 - direct.submittedAt)) < 1)
})

test('what CRM sent besides, and the bridge kept back, is not on the way', (t) => {
  const beside = mail('mes.orders', 'order.submitted', 'SUBMITTED', 2000, 2001, 'suppressed')
  t.deepEqual(orderHops(direct, [beside, ...wholeLife]), orderHops(direct, wholeLife))
})

for (const [state, times, expected] of [
  ['accepted', { sendingAt: undefined, deliveredAt: undefined }, 'doorbell'],
  ['sending', { deliveredAt: undefined }, 'courier'],
  ['in_doubt', { deliveredAt: undefined }, 'in doubt: waits for evidence'],
  ['delivered', {}, 'MES calculates'],
  ['dead', { deliveredAt: undefined }, 'dead: waits for "strangler reconcile --redrive"'],
] as const) {
  test(`a direct order that is ${state} is in "${expected}" now`, (t) => {
    const open = orderHops({ ...direct, state, ...times }, []).at(-1)
    t.like(open, { name: expected, leave: undefined, ms: undefined })
  })
}

test('a message that the bridge has not settled is in the bridge', (t) => {
  const hops = orderHops(direct, [
    mail('crm.events', 'order.price_calculated', 'PRICE_CALCULATED', 3000),
  ])
  t.like(hops.at(-1), { name: 'bridge crm.events', enter: 3000, leave: undefined })
})

/** The same life, with its statuses past CRM: each is applied `lag` after the bridge has diverted it. */
function directLife(lag: number): BridgeTimes[] {
  return wholeLife.map((each) =>
    each.queue === 'mes.orders'
      ? each
      : {
          ...each,
          state: 'diverted',
          inbox: {
            state: 'applied',
            reason: undefined,
            tries: 1,
            settledAt: each.settledAt! + lag,
          },
        },
  )
}

test('a status past CRM ends its hop when it is applied, and the seller waits from then on', (t) => {
  const hops = orderHops(direct, directLife(4))
  t.deepEqual(
    hops.slice(3, 8).map(({ name, ms }) => [name, ms]),
    [
      ['MES calculates', 1969.875],
      ['bridge crm.events', 2.5],
      ['status inbox', 4],
      ['waits for seller', 5993.5],
      ['bridge mes.orders', 1],
    ],
  )
  t.true(Math.abs(sum(hops) - (18_001.5 - direct.submittedAt)) < 1)
})

test('an applier that comes after the next message: no hop is negative, the sum holds', (t) => {
  const hops = orderHops(direct, directLife(2000))
  t.true(hops.every((hop) => hop.ms === undefined || hop.ms >= 0))
  const end = Math.max(18_001.5, 17_001 + 2000)
  t.true(Math.abs(sum(hops) - (end - direct.submittedAt)) < 1)
})

test('a status that is not applied is in the status inbox, also one that was redriven', (t) => {
  const [price] = directLife(4)
  const inbox = { state: 'waiting', reason: 'row_held', tries: 3, settledAt: undefined }
  const hops = orderHops(direct, [{ ...price!, inbox }])
  t.like(hops.at(-1), { name: 'status inbox', enter: 3002.5, leave: undefined })
  const again: BridgeTimes = {
    ...price!,
    queue: redriven,
    routingKey: redriven,
    settledAt: 3000,
    inbox,
  }
  t.deepEqual(
    orderHops(direct, [again])
      .slice(3)
      .map(({ name }) => name),
    ['until the redrive', 'status inbox'],
  )
})

test('a status that changed nothing says nothing of where the order is', (t) => {
  const [price, approved] = directLife(4)
  for (const late of [
    { ...price!, inbox: { ...price!.inbox!, state: 'backward' } },
    { ...price!, inbox: { ...price!.inbox!, state: 'dropped' } },
    { ...price!, queue: redriven, routingKey: redriven, status: undefined },
  ]) {
    t.is(orderHops(direct, [price!, approved!, late]).at(-1)!.name, 'waits for operator')
  }
})
