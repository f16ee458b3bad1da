import test from 'ava'

import { Breaker } from './breaker.ts'

const settings = { failuresToOpen: 3, probeEveryMs: 5000, fullRate: 1000 }

test('opens after so many failures in a row, not before, and a success in between starts the count anew', (t) => {
  const breaker = new Breaker(settings)
  breaker.failed(0)
  breaker.failed(1)
  breaker.succeeded()
  breaker.failed(2)
  breaker.failed(3)
  t.is(breaker.state, 'closed')
  breaker.failed(4)
  t.is(breaker.state, 'open')
})

test('open, it lets one real order through per period', (t) => {
  const breaker = new Breaker(settings)
  for (let n = 0; n < 3; n += 1) breaker.failed(100)
  t.is(breaker.allowance(101), 0)
  t.is(breaker.allowance(5100), 1)
  breaker.failed(5100)
  t.is(breaker.allowance(5101), 0)
})

test('closes with the probe, at a low rate that doubles with each success up to the full one', (t) => {
  const breaker = new Breaker(settings)
  for (let n = 0; n < 3; n += 1) breaker.failed(0)
  breaker.succeeded()
  t.is(breaker.state, 'closed')
  t.is(breaker.allowance(0), 16)
  breaker.succeeded()
  t.is(breaker.allowance(0), 32)
  for (let n = 0; n < 20; n += 1) breaker.succeeded()
  t.is(breaker.allowance(0), 1000)
})
