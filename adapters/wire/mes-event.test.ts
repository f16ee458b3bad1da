import test from 'ava'

import { priceKey, readMesEvent, statusKey } from './mes-event.ts'

function body(fields: string): Buffer {
  return Buffer.from(`{"orderId":"0","status":"PACKAGING",${fields}}`)
}

test('a price keeps the digits that the MES wrote', (t) => {
  for (const digits of [
    '12.30',
    '0.10',
    '9999999999.99',
    '12.345',
    '1e3',
    '12345678901234567890.12',
  ]) {
    const { status, price, currency } = readMesEvent(
      priceKey,
      body(`"price":${digits},"currency":"EUR"`),
    )
    t.deepEqual([status, price, currency], ['PRICE_CALCULATED', digits, 'EUR'])
  }
  t.is(readMesEvent(priceKey, body('"price":"12.30"')).price, '12.30')
  for (const none of ['"price":null', '"price":true', '"price":{"amount":1}', '"x":1'])
    t.is(readMesEvent(priceKey, body(none)).price, '', none)
})

test('a status is a status only, whatever else stands there', (t) => {
  t.deepEqual(readMesEvent(statusKey, body('"price":12.30,"currency":"EUR"')), {
    status: 'PACKAGING',
    price: undefined,
    currency: undefined,
  })
})

// Both made the bridge repeat one message for ever, with everything behind it waiting.
test('a byte order mark, and nesting deeper than the stack, are no reason to fail', (t) => {
  const plain = body('"price":12.30,"currency":"EUR"')
  t.is(
    readMesEvent(priceKey, Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), plain])).price,
    '12.30',
  )
  const deep = body(`"price":12.30,"x":${'['.repeat(100_000)}${']'.repeat(100_000)}`)
  t.is(readMesEvent(statusKey, deep).status, 'PACKAGING')
  t.is(readMesEvent(priceKey, deep).price, '', 'it has lost its digits, so it is parked')
})
