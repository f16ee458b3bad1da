import test from 'ava'

import { readLegacyMessage, sourceTime } from './legacy-message.ts'

const read = (text: string) => readLegacyMessage(Buffer.from(text))

test('reads what a seam needs, and leaves out what is not there', (t) => {
  t.deepEqual(
    read('{"orderId":"a","status":"SUBMITTED","occurredAt":"2026-01-02T03:04:05Z","externalId":7}'),
    {
      orderId: 'a',
      status: 'SUBMITTED',
      occurredAt: '2026-01-02T03:04:05Z',
      source: undefined,
      externalId: '7',
      partner: undefined,
    },
  )
})

// The duplicate this prevents: an id in upper case is looked up in the ledger as another order, so a direct one is sent again.
test('a UUID is known by its lower case, any other id as it is written', (t) => {
  t.is(
    read('{"orderId":"0F8FAD5B-D9CB-469F-A165-70867728950E"}')?.orderId,
    '0f8fad5b-d9cb-469f-a165-70867728950e',
  )
  t.is(read('{"orderId":"Order-7A"}')?.orderId, 'Order-7A')
})

const unreadable: Record<string, Buffer> = {
  'no JSON': Buffer.from('orderId=1'),
  'an array': Buffer.from('["a"]'),
  null: Buffer.from('null'),
  nothing: Buffer.alloc(0),
  'no order id': Buffer.from('{"status":"SUBMITTED"}'),
  'a number as order id': Buffer.from('{"orderId":7}'),
  'an empty order id': Buffer.from('{"orderId":""}'),
  'a NUL in the order id': Buffer.from('{"orderId":"a\\u0000"}'),
  'an order id of 501 characters': Buffer.from(JSON.stringify({ orderId: 'x'.repeat(501) })),
  'no UTF-8': Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]),
}
for (const [what, body] of Object.entries(unreadable)) {
  test(`unreadable: ${what}`, (t) => t.is(readLegacyMessage(body), undefined))
}

test('a time that is none does not spoil the message', (t) => {
  for (const occurredAt of ['soon', '+275760-09-13T00:00:00Z', '']) {
    t.is(sourceTime(read(JSON.stringify({ orderId: 'a', occurredAt }))!), undefined)
  }
  t.is(
    sourceTime(read('{"orderId":"a","occurredAt":"2026-01-02T03:04:05+02:00"}')!),
    '2026-01-02T01:04:05.000Z',
  )
})
