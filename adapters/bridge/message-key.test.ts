import test from 'ava'

import { messageKey, recurringKey } from './message-key.ts'

const body = Buffer.from('{"orderId":"o-1","status":"ü"}')
const message = {
  orderId: 'o-1',
  occurredAt: '2026-01-02T03:04:05Z',
  status: undefined,
  source: undefined,
  externalId: undefined,
  partner: undefined,
}
const delivery = {
  tag: 1n,
  exchange: 'mes.events',
  routingKey: 'order.status_changed',
  body,
  properties: {},
  redelivered: false,
}

// They stand in the inbox: a bridge that made other ones would take what is redelivered to it after an upgrade for new.
test('the keys are those of every earlier version', (t) => {
  const named = { ...delivery, properties: { messageId: 'm-1' } }
  t.is(
    messageKey(named, message)?.toString('hex'),
    '33a6f20ad5b30ac0d0469cf8782b130610ca282661930f7099e590c0e7fd13d6',
  )
  t.is(
    messageKey(delivery, message)?.toString('hex'),
    '5b0aa4243c2edf342f51ec17d1b82d240e6a4d96b7d0be2bbaace7b686422156',
  )
  t.is(
    recurringKey(delivery, message, '7').toString('hex'),
    '83ad4e145d697e258dc8b551290dcc6ed3e2609642c52f2df68cb00802338831',
  )
})
