import test from 'ava'

import { Redriven } from './redriven.ts'
import { readGuard, verdictOf } from './verdict.ts'

const orders = {
  submitted: 10,
  legacy: 4,
  direct: 6,
  delivered: 10,
  closed: 10,
  lost: 0,
  duplicated: 0,
  inDoubt: 0,
}
const guard = { installed: true, droppedRedeliveries: 3, droppedSecondSends: 0 }
const clean = { wanted: 10, orders, guard, brokenInvariants: 0 }

test('a run holds only when nothing differs, whatever the broker itself delivered again', (t) => {
  t.true(verdictOf(clean).held)
  t.false(verdictOf({ ...clean, wanted: 11 }).held)
  t.false(verdictOf({ ...clean, brokenInvariants: 1 }).held)
  t.false(verdictOf({ ...clean, guard: { ...guard, installed: false } }).held)
  for (const change of [
    { closed: 9 },
    { lost: 1 },
    { duplicated: 1 },
    { inDoubt: 1 },
  ] satisfies Partial<typeof orders>[])
    t.false(verdictOf({ ...clean, orders: { ...orders, ...change } }).held, JSON.stringify(change))
})

test('an order that was sent twice is doubled, although the guard kept it from the MES', (t) => {
  const verdict = verdictOf({ ...clean, guard: { ...guard, droppedSecondSends: 2 } })
  t.false(verdict.held)
  t.is(verdict.orders.duplicated, 2)
})

test('a guard that can not be read proves nothing', (t) => {
  t.deepEqual(readGuard(JSON.stringify(guard)), guard)
  for (const stdout of ['', 'null', '{"error":{"code":"refused"}}', '{"installed":true}'])
    t.throws(() => readGuard(stdout))
})

function lost(orderId: string, outcome?: string): object {
  return {
    kind: 'lost',
    orderId,
    says: '',
    ...(outcome === undefined ? {} : { redriven: outcome }),
  }
}

test('what reconcile mended is counted from its own report, each order once, and only what was done', (t) => {
  const redriven = new Redriven()
  t.true(
    redriven.add(
      JSON.stringify({
        counts: { lost: 3, stuck: 1 },
        differences: [
          lost('a', 'done'),
          lost('b', 'may be under way'),
          lost('c'),
          { kind: 'stuck', orderId: 'd', redriven: 'done' },
        ],
      }),
    ),
  )
  t.true(redriven.add(JSON.stringify({ differences: [lost('a', 'done'), lost('b', 'done')] })))
  t.deepEqual(redriven.counts, { lost: 2, stuck: 1 })
  t.false(redriven.add('{"error":{"code":"unavailable"}}'))
  t.false(redriven.add(''))
})
