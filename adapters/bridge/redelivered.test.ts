import test from 'ava'

import { storedBefore } from './redelivered.ts'

const cases = [
  { stored: '', again: 'ABA', same: 0, because: 'the bridge died before it stored the first' },
  { stored: 'A', again: 'ABA', same: 1, because: 'after the first: the last A is another one' },
  { stored: 'AB', again: 'ABA', same: 2, because: 'after the second' },
  { stored: 'ABA', again: 'ABA', same: 3, because: 'all were stored, and no ack arrived' },
  { stored: 'ABA', again: 'BA', same: 2, because: 'the ack of the first arrived' },
  { stored: 'ABA', again: 'A', same: 1, because: 'only the last was not acknowledged' },
  { stored: 'xABA', again: 'ABABA', same: 3, because: 'and the longest run is taken' },
  { stored: 'AB', again: 'A', same: 0, because: 'B came after the last A, so this one is new' },
  { stored: 'AA', again: 'AAA', same: 2, because: 'the same thrice on purpose' },
  { stored: 'ABC', again: 'D', same: 0, because: 'all were acknowledged' },
]

for (const { stored, again, same, because } of cases) {
  test(`stored ${stored || 'nothing'}, again ${again}: ${same} are known, ${because}`, (t) => {
    t.is(storedBefore(stored.split(''), again.split('')), same)
  })
}

/** Whatever was stored and acknowledged: the inbox ends with what was sent last, and lacks nothing but a run that was doubled. */
test('any history, any crash: the last message is the last row', (t) => {
  let tried = 0
  for (const sent of historiesUpTo(6)) {
    for (let stored = 0; stored <= sent.length; stored += 1) {
      for (let acked = 0; acked <= stored; acked += 1) {
        const rows = sent.slice(0, stored)
        const again = sent.slice(acked)
        const after = [...rows, ...again.slice(storedBefore(rows, again))]
        tried += 1
        t.is(after.at(-1), sent.at(-1), `${sent.join('')}, ${stored} stored, ${acked} acknowledged`)
        t.true(after.length <= sent.length, 'what was stored and comes again is never doubled')
      }
    }
  }
  t.true(tried > 1000)
})

function* historiesUpTo(length: number): Generator<string[]> {
  if (length === 0) return
  for (const first of 'AB') {
    yield [first]
    for (const rest of historiesUpTo(length - 1)) yield [first, ...rest]
  }
}
