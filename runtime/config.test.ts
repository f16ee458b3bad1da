import test from 'ava'

import { integer, optional, port, readConfig, text, url, withDefault } from './config.ts'
import { withoutSecrets } from './log.ts'

test('all mistakes are listed at once, by name, without the secret of a URL', (t) => {
  const error = t.throws(() =>
    readConfig(
      { LEDGER_URL: url('postgres'), QUEUE_URL: url('redis'), PORT: port, NAME: text() },
      { LEDGER_URL: 'mysql://user:geheim@host/db', PORT: '70000' },
    ),
  )
  t.regex(error.message, /LEDGER_URL expected to be a URL with postgres:\/\/, got mysql:\/\/\.\.\./)
  t.regex(error.message, /QUEUE_URL expected .* got nothing/)
  t.regex(error.message, /PORT expected to be a whole number from 0 to 65535, got 70000/)
  t.regex(error.message, /NAME expected to be set, got nothing/)
  t.notRegex(error.message, /geheim/)
})

test('what is not set takes its default, what is empty counts as not set, and the result is frozen', (t) => {
  const config = readConfig(
    {
      KILL_PERIOD_MS: withDefault(integer({ min: 1, max: 10 }), 3),
      AMQP_URL: optional(url('amqp')),
    },
    { KILL_PERIOD_MS: '' },
  )
  t.deepEqual({ ...config }, { KILL_PERIOD_MS: 3, AMQP_URL: undefined })
  t.true(Object.isFrozen(config))
})

test('a password in a URL does not reach a log', (t) => {
  t.is(
    withoutSecrets('connect amqp://shop:geheim@host:5672/v failed'),
    'connect amqp://shop:***@host:5672/v failed',
  )
})
