import test from 'ava'

import { shadowShare } from './proxy-settings.ts'

test('the shadow is off unless it is asked for, wholly or for a share', (t) => {
  t.is(shadowShare(undefined), 0)
  for (const [given, share] of [
    ['off', 0],
    ['on', 10_000],
    ['10%', 1000],
    ['0.01%', 1],
    ['0%', 0],
  ] as const)
    t.is(shadowShare(given), share, given)
  for (const given of ['yes', '101%', '-1%', 'On'])
    t.throws(() => shadowShare(given), { message: /expected to be off, on or a share/ })
})
