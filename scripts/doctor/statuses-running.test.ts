import test from 'ava'

import { missingForStatuses, readStatusesRunning } from '../../adapters/gates/statuses-running.ts'
import type { StatusesRunning } from '../../adapters/gates/statuses-running.ts'
import type { Finding } from '../../runtime/finding.ts'
import { createLog } from '../../runtime/log.ts'
import { createPool } from '../../runtime/postgres.ts'
import { startEstateDatabases } from '../../test/estate-databases.ts'
import { judgeStatusesRunning } from './statuses-running.ts'

function unsafe(findings: readonly Finding[]): string[] {
  return findings.filter((each) => each.level === 'unsafe').map((each) => each.subject)
}

const well: StatusesRunning = {
  fence: 'enabled',
  fencedWriters: 1,
  share: 1000,
  appliers: 1,
  shadows: 1,
  unappliedMs: undefined,
  parked: 0,
  crmWritesWaiting: 0,
  eventsBridge: 'inserted',
}

const judge = (change: Partial<StatusesRunning>) => judgeStatusesRunning({ ...well, ...change })
const against = (change: Partial<StatusesRunning>) => {
  const { parts, processes } = missingForStatuses({ ...well, ...change })
  return [...parts, ...processes]
}

test('what does not run, does not fence, or does not keep up, is named', (t) => {
  const found = (change: Partial<StatusesRunning>) => unsafe(judge(change))
  const warned = (change: Partial<StatusesRunning>) =>
    judge(change)
      .filter((each) => each.level === 'warn')
      .map((each) => each.subject)
  t.deepEqual(found({}), [])
  t.deepEqual(warned({}), [])
  t.deepEqual(found({ fence: 'disabled' }), ['trigger strangler_fence'])
  t.deepEqual(found({ fence: 'missing' }), ['trigger strangler_fence'])
  t.regex(judge({ fence: 'missing' })[0]!.fix!, /strangler migrate --only shop/)
  t.deepEqual(found({ fencedWriters: 0 }), ['fenced writers'])
  t.deepEqual(found({ appliers: 0 }), ['applier'])
  t.deepEqual(found({ unappliedMs: 61_000 }), ['status inbox'])
  t.deepEqual(found({ unappliedMs: 59_000 }), [])
  // Nothing is direct yet: that it is not there is no danger, and is said.
  const unused = { share: 0, appliers: 0, fencedWriters: 0, fence: 'disabled' } as const
  t.deepEqual(found(unused), [])
  t.deepEqual(warned(unused), ['trigger strangler_fence', 'fenced writers', 'applier'])
  // After a rollback what is direct still needs its applier.
  t.deepEqual(found({ share: 0, appliers: 0, unappliedMs: 10 }), ['applier'])
  t.deepEqual(warned({ parked: 2 }), ['parked statuses'])
  t.deepEqual(warned({ shadows: 0, crmWritesWaiting: 10_001 }), ['shadow'])
  t.deepEqual(warned({ shadows: 1, crmWritesWaiting: 10_001 }), [])
})

test('why no more orders should get them the direct way', (t) => {
  t.deepEqual(against({}), [])
  t.deepEqual(against({ eventsBridge: 'absent' }), ['the bridge of crm.events is absent'])
  t.deepEqual(against({ fence: 'disabled' }), ['the trigger strangler_fence is disabled'])
  t.deepEqual(against({ fencedWriters: 0 }), ['no login of CRM is fenced'])
  t.deepEqual(against({ appliers: 0 }), ['no applier runs'])
  // Neither is needed by an order.
  t.deepEqual(against({ shadows: 0, parked: 3 }), [])
})

test('what runs is read from the two databases', async (t) => {
  const estate = await startEstateDatabases()
  const { ledger, shop } = estate
  try {
    const read = () => readStatusesRunning(ledger, shop)
    const nothing = { appliers: 0, shadows: 0, unappliedMs: undefined, parked: 0, share: 0 }
    t.like(await read(), {
      ...nothing,
      fence: 'enabled',
      fencedWriters: 1,
      crmWritesWaiting: 0,
      eventsBridge: 'absent',
    })
    await ledger.query(
      `INSERT INTO status_inbox (id, order_id, received_at, state) VALUES (1, 'a', now() - interval '90 s', 'waiting'),
         (2, 'a', now(), 'open'), (3, 'b', now() - interval '1 hour', 'parked')`,
    )
    await ledger.query(
      `INSERT INTO bridge (queue, state, who) VALUES ('crm.events', 'inserted', 'test'), ('mes.orders', 'absent', 'test')`,
    )
    await ledger.query(
      `INSERT INTO strangler.route (phase, epoch, share, seed) VALUES ('statuses-direct', 1, 5000, 1)`,
    )
    await shop.query('ALTER TABLE public.orders DISABLE TRIGGER strangler_fence')
    await shop.query(`UPDATE strangler.fenced_writer SET role = 'somebody'`)
    const applier = createPool(estate.urls.shop, {
      name: 'strangler-applier',
      log: createLog('test'),
    })
    try {
      await applier.query('SELECT 1')
      const now = await read()
      t.like(now, {
        fence: 'disabled',
        fencedWriters: 0,
        share: 5000,
        appliers: 1,
        parked: 1,
        eventsBridge: 'inserted',
      })
      t.true(now.unappliedMs! > 89_000 && now.unappliedMs! < 600_000)
    } finally {
      await applier.end()
    }
    await shop.query('DROP TRIGGER strangler_fence ON public.orders')
    t.is((await read()).fence, 'missing')
  } finally {
    await estate.stop()
  }
})
