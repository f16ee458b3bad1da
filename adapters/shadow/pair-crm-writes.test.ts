import test from 'ava'

import { ourWriteOf } from '../wire/shop-write.ts'
import { pairCrmWrites } from './pair-crm-writes.ts'
import type { LoggedWrite, OrderToCompare, PairedOrder, StatusMessage } from './pair-crm-writes.ts'

type Also = Partial<StatusMessage>

function priced(inboxId: string, price: string, also: Also = {}): StatusMessage {
  return message(inboxId, 'order.price_calculated', `"price":${price},"currency":"EUR"`, also)
}

function moved(inboxId: string, status: string, also: Also = {}): StatusMessage {
  return message(inboxId, 'order.status_changed', `"status":"${status}"`, also)
}

function message(inboxId: string, key: string, fields: string, also: Also): StatusMessage {
  const ours = ourWriteOf(key, Buffer.from(`{"orderId":"o",${fields}}`))
  return { inboxId, ours, open: true, ripe: false, known: {}, ...also }
}

function write(id: string, status: string, more: Partial<LoggedWrite> = {}): LoggedWrite {
  return { id, status, price: null, currency: null, repriced: false, ripe: false, ...more }
}

function wrotePrice(id: string, price: string, more: Partial<LoggedWrite> = {}): LoggedWrite {
  return write(id, 'PRICE_CALCULATED', { price, currency: 'EUR', repriced: true, ...more })
}

function pair(
  messages: readonly StatusMessage[],
  writes: readonly LoggedWrite[],
  order: Partial<OrderToCompare> = {},
): PairedOrder {
  return pairCrmWrites({
    orderId: 'o',
    messages,
    writes,
    underway: false,
    fromTheStart: true,
    inShop: true,
    ...order,
  })
}

/** `<message>: field ours|theirs` of all that is concluded. */
function told({ compared, unasked }: PairedOrder): string[] {
  return [
    ...compared.map(({ inboxId, differences, again }) =>
      [
        `${inboxId}${again ? ' again' : ''}:`,
        ...differences.map(
          ({ field, ours, theirs }) => `${field} ${ours ?? 'absent'}|${theirs ?? 'absent'}`,
        ),
      ].join(' '),
    ),
    ...unasked.map(
      ({ crmWriteId, difference: { field, theirs } }) =>
        `write ${crmWriteId}: ${field} absent|${theirs}`,
    ),
  ]
}

const life = [
  priced('1', '12.30'),
  moved('2', 'MANUFACTURING_STARTED'),
  moved('3', 'MANUFACTURING_COMPLETED'),
]
const lived = [
  wrotePrice('a', '12.30'),
  write('b', 'MANUFACTURING_STARTED', { price: '12.30', currency: 'EUR' }),
  write('c', 'MANUFACTURING_COMPLETED', { price: '12.30', currency: 'EUR' }),
]

test('what CRM wrote as it was told is no difference, also with another number of zeros', (t) => {
  const all = pair([priced('1', '12.3'), ...life.slice(1)], lived)
  t.deepEqual(told(all), ['1:', '2:', '3:'])
  t.deepEqual(all.done, ['a', 'b', 'c'])
})

test('a last digit, a currency or a status that differs is named, once CRM has had its time', (t) => {
  const wrong = [wrotePrice('a', '12.31')]
  t.deepEqual(told(pair([priced('1', '12.30')], wrong)), [])
  t.deepEqual(told(pair([priced('1', '12.30', { ripe: true })], wrong)), ['1: price 12.30|12.31'])
  t.deepEqual(
    told(
      pair([priced('1', '12.30', { ripe: true })], [wrotePrice('a', '12.30', { currency: 'USD' })]),
    ),
    ['1: currency EUR|USD'],
  )
  t.deepEqual(told(pair([moved('1', 'PACKAGING', { ripe: true })], [write('a', 'SHIPPED')])), [
    '1: status PACKAGING|SHIPPED',
  ])
  t.deepEqual(
    told(
      pair(
        [moved('1', 'PACKAGING', { ripe: true })],
        [write('a', 'PACKAGING', { price: '1.00', repriced: true })],
      ),
    ),
    ['1: price absent|1.00'],
  )
})

test('only the write that is wrong is named, wherever in the sequence it stands', (t) => {
  for (const wrong of [0, 1, 2]) {
    const ripe = life.map((each) => ({ ...each, ripe: true }))
    const without = lived.filter((_, index) => index !== wrong)
    const missing = pair(ripe, without)
    const differing = missing.compared.filter(({ differences }) => differences.length > 0)
    t.is(missing.compared.length, 3)
    t.deepEqual(
      differing.map(({ inboxId, differences: [first] }) => [inboxId, first?.field, first?.theirs]),
      [[life[wrong]!.inboxId, 'row', undefined]],
    )
  }
})

test('a redelivery of the broker is no difference: the same writes again, at once or much later', (t) => {
  const again = lived.map((each) => ({ ...each, id: `${each.id}2`, ripe: true, repriced: false }))
  t.deepEqual(told(pair(life, [...lived, ...again])), ['1:', '2:', '3:'])
  t.is(pair(life, [...lived, ...again]).done.length, 6)
  const before = life.map((each) => ({ ...each, open: false, ripe: true }))
  const later = pair(before, again)
  t.deepEqual(told(later), [])
  t.is(later.done.length, 3)
})

test('a wrong write is told once, however often it is redelivered', (t) => {
  const ripe = [priced('1', '12.30', { ripe: true })]
  const wrong = [
    wrotePrice('a', '12.31'),
    wrotePrice('b', '12.31', { repriced: false, ripe: true }),
  ]
  t.deepEqual(told(pair(ripe, wrong)), ['1: price 12.30|12.31'])
  const known = [priced('1', '12.30', { open: false, known: { price: '12.31' } })]
  const later = pair(known, [wrotePrice('b', '12.31', { repriced: false, ripe: true })])
  t.deepEqual([told(later), later.done], [[], ['b']])
})

test('a redelivered price does not pass for the next one', (t) => {
  const messages = [priced('1', '10.00', { open: false }), priced('2', '12.00', { ripe: true })]
  const writes = [wrotePrice('a', '10.00'), wrotePrice('b', '12.00')]
  t.deepEqual(told(pair(messages, writes)), ['2:'])
  t.deepEqual(told(pair(messages, writes.slice(0, 1))), [
    '2: row PRICE_CALCULATED 12.00 EUR|absent',
  ])
})

test('a write that comes after it was given up takes the difference back', (t) => {
  const given = [priced('1', '12.30', { open: false, ripe: true, known: { row: null } })]
  t.deepEqual(told(pair(given, [wrotePrice('a', '12.30')])), ['1 again:'])
  t.deepEqual(told(pair(given, [wrotePrice('a', '12.31')])), ['1 again: price 12.30|12.31'])
})

test('a write that nobody asked for is a difference when its message can not have passed elsewhere', (t) => {
  const writes = [write('a', 'SHIPPED', { ripe: true })]
  t.deepEqual(told(pair([], [write('a', 'SHIPPED')])), [])
  t.deepEqual(told(pair([], writes)), ['write a: row absent|SHIPPED'])
  t.deepEqual(told(pair([], writes, { underway: true })), [])
  const fromBefore = pair([], writes, { fromTheStart: false })
  t.deepEqual([told(fromBefore), fromBefore.done], [[], ['a']])
})

test('what neither side can write is no difference; what only one refuses is', (t) => {
  const ripe = { ripe: true }
  t.deepEqual(told(pair([moved('1', 'LOST', ripe)], [])), ['1:'])
  t.deepEqual(told(pair([moved('1', 'SHIPPED', ripe)], [], { inShop: false })), ['1:'])
  t.deepEqual(told(pair([priced('1', '12.345', ripe)], [wrotePrice('a', '12.35')])), [
    '1: row parked: price_unreadable|PRICE_CALCULATED 12.35 EUR',
  ])
  t.deepEqual(told(pair([moved('1', 'CLOSED')], [])), [
    '1: row parked: wrong_setter|CLOSED, as far as CRM wrote it',
  ])
})
