import test from 'ava'

import { pace } from './pace.ts'

function at(perMinute: number) {
  let clock = 0
  const bucket = pace(perMinute, () => clock)
  return {
    /** After so many milliseconds: takes all that are due. */
    after(ms: number): number {
      clock += ms
      const due = bucket.due()
      bucket.went(due)
      return due
    },
  }
}

test('a flood goes at the pace, one at a time', (t) => {
  const relay = at(120)
  t.is(relay.after(0), 2)
  const went = Array.from({ length: 600 }, () => relay.after(20))
  t.is(
    went.reduce((sum, each) => sum + each, 0),
    24,
  )
  t.is(Math.max(...went), 1)
})

test('what was not used is kept for one second, not longer', (t) => {
  const relay = at(120)
  t.is(relay.after(3_600_000), 2)
  t.is(relay.after(499), 0)
  t.is(relay.after(1), 1)
})

test('less than one a second still goes', (t) => {
  const relay = at(6)
  t.is(relay.after(0), 1)
  t.is(relay.after(9_999), 0)
  t.is(relay.after(1), 1)
})
