import test from 'ava'

import { startEstateDatabases } from '../test/estate-databases.ts'
import { approveStep, readApprovals } from './approvals.ts'
import type { GateResult } from './gates.ts'
import { advancePhase, phaseStatus } from './phase-journal.ts'
import { reconcilePhase } from './reconcile-phase.ts'
import { readTimeline } from './timeline.ts'
import { writeWish } from './wish.ts'

const estate = await startEstateDatabases()
const { ledger, shop } = estate
const phase = 'orders-direct'
const act = { ledger, seam: shop, phase, who: 'ann', why: 'a test' } as const
const by = { who: 'ann', why: 'a test', source: 'command' } as const

test.beforeEach(async () => {
  await ledger.query(
    'TRUNCATE phase, phase_journal, phase_event, wish, gate_result, approval, replica',
  )
  await ledger.query(
    `INSERT INTO replica (id, kind, host, pid, epochs, lease_ms) VALUES (gen_random_uuid(), 'relay', 'h', 1, '{"orders-direct": 99}', 600000)`,
  )
  await shop.query('TRUNCATE strangler.route')
})
test.after.always(() => estate.stop())

function judged(change: Partial<GateResult> = {}): GateResult {
  return {
    gate: 'conservation',
    verdict: 'PASS',
    measured: '0 of 10',
    needed: '0',
    says: 'all there',
    orderIds: [],
    source: 'a test',
    unblock: undefined,
    ...change,
  }
}

function round(results: () => Promise<readonly GateResult[]>, approvalsNeeded = 0) {
  return reconcilePhase({
    ledger,
    seam: shop,
    phase,
    evidence: { judge: results },
    approvalsNeeded,
  })
}

const standing = async () => {
  const { share, pin } = await phaseStatus({ ledger, seam: shop, phase })
  return { share, pin: pin?.kind }
}

test.serial('a lower wish does not wait for gates that no one answers', async (t) => {
  await advancePhase({ ...act, share: 5000 })
  await writeWish(ledger, phase, { share: 1000, ...by })
  const never = new Promise<GateResult[]>(() => undefined)
  t.like(await round(() => never), { did: 'moved' })
  t.deepEqual(await standing(), { share: 1000, pin: undefined })
})

test.serial('a higher wish rises a step at a time, and only while every gate passes', async (t) => {
  await writeWish(ledger, phase, { share: 10_000, ...by })
  for (const verdict of ['INCONCLUSIVE', 'FAIL'] as const) {
    t.like(await round(() => Promise.resolve([judged({ verdict })])), { did: 'blocked' })
    t.deepEqual(await standing(), { share: 0, pin: undefined })
  }
  for (const share of [1000, 5000, 10_000]) {
    t.like(await round(() => Promise.resolve([judged()])), { did: 'moved' })
    t.deepEqual(await standing(), { share, pin: undefined })
  }
})

test.serial('a guard sends back for the new way, and not for what the legacy lost', async (t) => {
  await advancePhase({ ...act, share: 5000 })
  await writeWish(ledger, phase, { share: 10_000, ...by })
  const lost = { verdict: 'FAIL', says: 'A-1 is gone', orderIds: ['A-1'] } as const
  t.like(await round(() => Promise.resolve([judged({ ...lost, legacyOnly: true })])), {
    did: 'blocked',
  })
  t.deepEqual(await standing(), { share: 5000, pin: undefined })
  t.like(await round(() => Promise.resolve([judged({ ...lost, gate: 'lag' })])), { did: 'blocked' })
  t.deepEqual(await standing(), { share: 5000, pin: undefined })
  t.like(await round(() => Promise.resolve([judged(lost)])), { did: 'rolled back' })
  t.deepEqual(await standing(), { share: 0, pin: 'rollback' })
  const [breach] = (await readTimeline(ledger, { phase, limit: 20 })).filter(
    ({ kind }) => kind === 'breach',
  )
  t.like(breach, { who: 'strangler', detail: { orders: ['A-1'] } })
  t.like(await round(() => Promise.resolve([judged()])), { did: 'pinned', wanted: 10_000 })
})

test.serial('an unknown wish is not 0 %', async (t) => {
  await advancePhase({ ...act, share: 5000 })
  await writeWish(ledger, phase, { ...by, share: undefined, reason: 'Unleash answered 401' })
  t.like(await round(() => Promise.resolve([judged()])), {
    did: 'unknown',
    reason: 'Unleash answered 401',
  })
  t.deepEqual(await standing(), { share: 5000, pin: undefined })
})

test.serial(
  'one person approves once, however they write themselves; a breach voids it',
  async (t) => {
    await writeWish(ledger, phase, { share: 1000, ...by })
    t.like(await round(() => Promise.resolve([judged()]), 2), { did: 'blocked' })
    const approving = { phase, share: 1000, why: 'seen', forMs: 60_000 } as const
    for (const who of ['ann', 'Ann', ' ANN ']) await approveStep(ledger, { ...approving, who })
    const step = { phase, epoch: 0, share: 1000 } as const
    t.is((await readApprovals(ledger, step)).length, 1)
    t.like(await round(() => Promise.resolve([judged()]), 2), { did: 'blocked' })
    await round(() => Promise.resolve([judged({ verdict: 'FAIL', says: 'A-1 is gone' })]), 2)
    t.deepEqual(await readApprovals(ledger, step), [])
    await round(() => Promise.resolve([judged()]), 2)
    for (const who of ['ann', 'bob']) await approveStep(ledger, { ...approving, who })
    t.like(await round(() => Promise.resolve([judged()]), 2), { did: 'moved' })
  },
)
