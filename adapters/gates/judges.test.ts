import test from 'ava'

import type { Difference } from '../../delivery/difference.ts'
import { overall } from '../../flags/gates.ts'
import type { GateResult } from '../../flags/gates.ts'
import { judgeConservation, judgeDuplicates } from './conservation.ts'
import type { Books } from './conservation.ts'
import { judgeDeadLetters } from './dead-letters.ts'
import { judgeInDoubt } from './in-doubt.ts'
import { judgeLag } from './lag.ts'
import type { Wait } from './lag.ts'
import { judgeOverhead, quantile, tailIsOver } from './overhead.ts'
import { judgePages } from './pages.ts'
import type { LookedAtPage } from './pages.ts'
import { judgeParity } from './parity.ts'
import type { ParityEvidence } from './parity.ts'
import { judgeRunning } from './running.ts'

/** Values that a broken source may give. None of them may ever pass. */
const broken = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -1]
const verdict = ({ verdict: given }: GateResult): string => given

const books: Books = {
  accepted: 100,
  terminal: 90,
  inFlight: 10,
  unexplained: [],
  unexplainedOrders: 0,
  legacyOnly: true,
  besides: 0,
}
const samples = { orders: 100, path: 'legacy' } as const
const lost: Difference = {
  kind: 'lost',
  toward: 'MES',
  orderId: 'A-1',
  says: 'it was delivered, and the MES does not have it',
  remedy: undefined,
  waits: false,
}

const conserved = (change: Partial<Books>, orders = 100, minimum = 100) =>
  judgeConservation({ ...books, ...change }, { ...samples, orders }, minimum)

test('conservation: a count, and never a rate', (t) => {
  t.is(verdict(conserved({})), 'PASS')
  // One of a hundred thousand.
  const one = conserved({
    accepted: 100_000,
    terminal: 99_999,
    inFlight: 0,
    unexplainedOrders: 1,
    unexplained: [{ ...lost, lastHop: { hop: 'courier (delivered)', at: new Date(0) } }],
  })
  t.is(one.verdict, 'FAIL')
  t.deepEqual(one.orderIds, ['A-1'])
  t.regex(one.says, /A-1 \(lost: .*; last seen by courier \(delivered\) at 1970-01-01T/)
  t.regex(
    conserved({ unexplainedOrders: 1, unexplained: [{ ...lost, lastHop: undefined }] }).says,
    /nothing of ours has seen it/,
  )
  t.is(verdict(conserved({}, 99)), 'INCONCLUSIVE')
  t.is(verdict(conserved({}, 0)), 'INCONCLUSIVE')
  t.is(verdict(conserved({}, 0, 0)), 'PASS')
  // Too few, and yet one is lost.
  t.is(
    verdict(conserved({ unexplainedOrders: 1, unexplained: [{ ...lost, lastHop: undefined }] }, 0)),
    'FAIL',
  )
  t.is(verdict(conserved({ terminal: 80 })), 'INCONCLUSIVE')
  for (const value of broken) {
    for (const name of ['accepted', 'terminal', 'inFlight', 'unexplainedOrders', 'besides'])
      t.is(verdict(conserved({ [name]: value }, 100, 0)), 'INCONCLUSIVE', `${name} ${value}`)
    t.is(verdict(conserved({}, value, 0)), 'INCONCLUSIVE')
  }
})

const doubled = (duplicates: readonly Difference[], orders = 100, minimum = 100) =>
  judgeDuplicates({ accepted: 100, duplicates, legacyOnly: false }, { ...samples, orders }, minimum)

test('duplicates: none, of enough orders', (t) => {
  t.is(verdict(doubled([])), 'PASS')
  t.is(verdict(doubled([{ ...lost, kind: 'duplicate' }], 0)), 'FAIL')
  t.is(verdict(doubled([], 99)), 'INCONCLUSIVE')
  t.is(verdict(doubled([], 0, 0)), 'PASS')
  for (const value of broken) t.is(verdict(doubled([], value, 0)), 'INCONCLUSIVE')
})

const parity: ParityEvidence = {
  report: { compared: 4812, differing: 0, differingOrders: 0, fields: [] },
  waiting: { messages: 0, more: false, oldestMs: undefined },
  shadows: 1,
  share: 0,
  lastDay: '2026-01-02',
}
const price = {
  field: 'price',
  differences: 2,
  orders: 2,
  accepted: undefined,
  samples: [{ orderId: 'A-1', ours: '1.00', theirs: '1.01', at: new Date(0) }],
}

const shadowed = (change: Partial<ParityEvidence>, minimum = 2000) =>
  judgeParity('orders-direct', { ...parity, ...change }, minimum)
const reported = (change: Partial<ParityEvidence['report']>) => ({
  report: { ...parity.report, ...change },
})
const waitingFor = (oldestMs: number) => ({ waiting: { messages: 3, more: false, oldestMs } })

test('parity: nobody who looks is no proof', (t) => {
  t.is(verdict(shadowed({})), 'PASS')
  const differs = shadowed(reported({ differing: 2, differingOrders: 2, fields: [price] }))
  t.is(differs.verdict, 'FAIL')
  t.deepEqual(differs.orderIds, ['A-1'])
  t.regex(differs.says, /price differs 2 times, such as ours 1\.00, theirs 1\.01 of A-1/)
  const accepted = { until: new Date(), why: 'rounding', who: 'ann' }
  t.regex(
    shadowed(reported({ differing: 2, fields: [{ ...price, accepted }] })).says,
    /but in price, which is accepted/,
  )
  t.is(verdict(shadowed(reported({ compared: 1999 }))), 'INCONCLUSIVE')
  t.is(verdict(shadowed(reported({ compared: 0 }), 0)), 'PASS')
  t.is(verdict(shadowed(waitingFor(299_000))), 'PASS')
  t.is(verdict(shadowed(waitingFor(301_000))), 'INCONCLUSIVE')
  t.is(verdict(shadowed({ shadows: 0 })), 'INCONCLUSIVE')
  // Nothing goes through CRM any more: the last word counts, if there was one.
  const allDirect = { share: 10_000, shadows: 0 }
  t.regex(
    shadowed(allDirect).says,
    /all orders are direct, so nothing new is compared; up to 2026-01-02/,
  )
  t.is(verdict(shadowed(allDirect)), 'PASS')
  t.is(verdict(shadowed({ ...allDirect, ...reported({ compared: 3 }) })), 'INCONCLUSIVE')
  t.is(verdict(shadowed({ ...allDirect, ...waitingFor(10) })), 'INCONCLUSIVE')
  t.is(
    verdict(shadowed({ ...allDirect, ...reported({ differingOrders: 1, fields: [price] }) })),
    'FAIL',
  )
  for (const value of broken) {
    t.is(verdict(shadowed(reported({ compared: value }), 0)), 'INCONCLUSIVE')
    t.is(verdict(shadowed(reported({ differingOrders: value }), 0)), 'INCONCLUSIVE')
    t.is(verdict(shadowed({ shadows: value }, 0)), 'INCONCLUSIVE')
    t.is(verdict(shadowed(waitingFor(value), 0)), 'INCONCLUSIVE')
  }
})

const doubtful = (...ages: number[]) =>
  judgeInDoubt(
    ages.map((ageMs, index) => ({ orderId: `A-${index}`, ageMs })),
    60_000,
  )

test('in doubt: longer than it takes to settle', (t) => {
  t.is(verdict(doubtful()), 'PASS')
  t.is(verdict(doubtful(59_000)), 'PASS')
  const old = doubtful(61_000, 1000)
  t.is(old.verdict, 'FAIL')
  t.deepEqual(old.orderIds, ['A-0'])
  for (const value of broken) t.is(verdict(doubtful(value)), 'INCONCLUSIVE')
})

test('dead letters: each kind counts, and is named', (t) => {
  const none = { 'dead order': 0, 'parked message': 0, 'parked status': 0 }
  t.is(verdict(judgeDeadLetters({ counts: none, first: [] })), 'PASS')
  for (const kind of ['dead order', 'parked message', 'parked status'] as const) {
    const first = [{ kind, id: '7', orderId: 'A-1', reason: 'unreadable' }]
    const found = judgeDeadLetters({ counts: { ...none, [kind]: 1 }, first })
    t.is(found.verdict, 'FAIL')
    t.regex(found.says, new RegExp(`${kind} 7 of order A-1 \\(unreadable\\)`))
    for (const value of broken)
      t.is(
        verdict(judgeDeadLetters({ counts: { ...none, [kind]: value }, first: [] })),
        'INCONCLUSIVE',
      )
  }
})

const waitOf = (oldestMs: number | undefined, because?: string): Wait => ({
  where: 'the outbox',
  oldestMs,
  limitMs: 60_000,
  orderId: 'A-1',
  because,
})

test('lag: whatever waits too long, with the reason where it is known', (t) => {
  t.is(verdict(judgeLag([waitOf(undefined), waitOf(59_000)])), 'PASS')
  const late = judgeLag([waitOf(undefined), waitOf(61_000, 'the MES is down')])
  t.is(late.verdict, 'FAIL')
  t.regex(late.says, /order A-1 waits in the outbox for 61 s: the MES is down/)
  t.is(verdict(judgeLag([])), 'INCONCLUSIVE')
  for (const value of broken) t.is(verdict(judgeLag([waitOf(value)])), 'INCONCLUSIVE')
})

test('running: what is missing, in words', (t) => {
  t.is(verdict(judgeRunning({ parts: [], processes: [] })), 'PASS')
  const missing = judgeRunning({ parts: ['the bridge is absent'], processes: ['no courier runs'] })
  t.is(missing.verdict, 'FAIL')
  t.is(missing.says, 'the bridge is absent, no courier runs')
})

const page: LookedAtPage = {
  door: 'Shop',
  path: '/',
  status: 200,
  compared: { differences: [], unsteady: [] },
  silent: undefined,
}

const looked = (...pages: Partial<LookedAtPage>[]) =>
  judgePages(
    pages.map((each) => ({ ...page, ...each })),
    100,
  )

test('pages: none, a silent one and one that can not be compared are no proof', (t) => {
  t.is(verdict(looked({})), 'PASS')
  t.is(verdict(looked()), 'INCONCLUSIVE')
  t.is(verdict(judgePages([], 0)), 'PASS')
  t.is(verdict(looked({}, { silent: 'http://x/: refused', compared: undefined })), 'INCONCLUSIVE')
  t.is(verdict(looked({ status: 500 })), 'INCONCLUSIVE')
  t.is(
    verdict(looked({ compared: { differences: ['status 200 instead of 500'], unsteady: [] } })),
    'FAIL',
  )
  t.is(verdict(looked({ compared: { differences: [], unsteady: ['the body'] } })), 'INCONCLUSIVE')
  // Another page of the same door could be.
  t.is(verdict(looked({ compared: { differences: [], unsteady: ['the body'] } }, {})), 'PASS')
  t.is(
    verdict(looked({}, { door: 'CRM', compared: { differences: [], unsteady: ['the body'] } })),
    'INCONCLUSIVE',
  )
  for (const value of broken) t.is(verdict(looked({ status: value })), 'INCONCLUSIVE')
})

const repeated = (count: number, ms: number): number[] => Array.from({ length: count }, () => ms)

test('overhead: medians of pairs, and a tail that is more than the noise', (t) => {
  const settings = { minimum: 20, addedP50Ms: 5, addedP99Ms: 50 }
  const judge = (
    added: readonly number[],
    change: Partial<typeof settings> = {},
    silent?: string,
  ) => judgeOverhead([{ door: 'Shop', added, silent }], false, { ...settings, ...change })
  t.is(verdict(judge(repeated(20, 1))), 'PASS')
  t.is(verdict(judge(repeated(20, 6))), 'FAIL')
  t.is(verdict(judge(repeated(20, 51))), 'FAIL')
  t.is(verdict(judge(repeated(19, 1))), 'INCONCLUSIVE')
  t.is(verdict(judge([], { minimum: 0 })), 'INCONCLUSIVE')
  t.is(verdict(judge(repeated(20, 1), {}, 'http://x/: refused')), 'INCONCLUSIVE')
  t.is(verdict(judgeOverhead([], false, settings)), 'INCONCLUSIVE')
  t.is(verdict(judgeOverhead([], false, { ...settings, minimum: 0 })), 'PASS')
  // A busy machine makes either of a pair late.
  const noisy = [...repeated(960, 1), ...repeated(20, 80), ...repeated(20, -80)]
  t.is(verdict(judge(noisy)), 'PASS')
  t.regex(judge(noisy).says, /requests without the proxy are as late as often/)
  // On a busy machine requests wait, but not all of them.
  const onBusy = (added: readonly number[]) =>
    judgeOverhead([{ door: 'Shop', added, silent: undefined }], true, settings)
  t.is(verdict(onBusy([...repeated(5, 1), ...repeated(15, 20)])), 'INCONCLUSIVE')
  t.is(verdict(judge([...repeated(5, 1), ...repeated(15, 20)])), 'FAIL')
  t.is(verdict(onBusy([...repeated(5, 50), ...repeated(15, 70)])), 'FAIL')
  t.is(verdict(onBusy(repeated(40, 1))), 'PASS')
  // A proxy that makes one in twenty late is none of that.
  t.is(verdict(judge([...repeated(950, 1), ...repeated(50, 80)])), 'FAIL')
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])
    t.is(verdict(judge([...repeated(30, 1), value])), 'INCONCLUSIVE')
  t.is(verdict(judge(repeated(20, 1), { addedP50Ms: Number.NaN })), 'INCONCLUSIVE')
  t.true(Number.isNaN(quantile([], 0.5)))
  t.is(quantile([3, 1, 2], 0.5), 2)
  t.false(tailIsOver([], 50))
})

test('the verdict of all is that of the worst', (t) => {
  t.is(overall([]), 'INCONCLUSIVE')
  t.is(overall([judgeInDoubt([], 1)]), 'PASS')
  t.is(overall([judgeInDoubt([], 1), judgeLag([])]), 'INCONCLUSIVE')
  t.is(overall([judgeLag([]), judgeRunning({ parts: ['x'], processes: [] })]), 'FAIL')
})
