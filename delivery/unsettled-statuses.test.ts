import test from 'ava'

import { startEstateDatabases } from '../test/estate-databases.ts'
import { decideStatus } from './decide-status.ts'
import { countPinned, countStatuses, countUnsettled, listUnsettled } from './unsettled-statuses.ts'

const estate = await startEstateDatabases()
const { ledger } = estate
test.after.always(() => estate.stop())
test.beforeEach(async () => {
  await ledger.query('TRUNCATE order_ledger, order_event, status_inbox')
  await ledger.query(
    `INSERT INTO status_inbox (id, order_id, status, price, currency, received_at, state, reason, tries, settled_at)
     SELECT id, 'order-' || id, status, price, 'EUR', now() - age * interval '1 s', state, reason, 3,
       CASE WHEN state IN ('applied', 'backward') THEN now() END
     FROM (VALUES (1, 'SHIPPED', NULL, 90, 'waiting', 'not_approved'), (2, 'SHIPPED', NULL, 30, 'open', NULL),
       (3, 'PRICE_CALCULATED', '12.30', 40, 'applied', NULL), (4, 'CLOSED', NULL, 20, 'parked', 'wrong_setter'),
       (5, 'GONE', NULL, 10, 'parked', 'unknown_status'), (6, 'PACKAGING', NULL, 9, 'backward', 'the order is CLOSED'))
       AS v(id, status, price, age, state, reason)`,
  )
})

test.serial(
  'what waits is counted and listed, what is parked first, and what is settled not',
  async (t) => {
    const unsettled = await countUnsettled(ledger)
    t.deepEqual(
      unsettled.map(({ state, events }) => [state, events]),
      [
        ['open', 1],
        ['waiting', 1],
        ['parked', 2],
      ],
    )
    t.true(unsettled[1]!.oldestMs! > 89_000 && unsettled[1]!.oldestMs! < 150_000)
    const all = await countStatuses(ledger)
    t.deepEqual(
      all.map(({ state }) => state),
      ['open', 'waiting', 'parked', 'applied', 'backward'],
    )
    t.is(all[3]!.oldestMs, undefined)
    const listed = await listUnsettled(ledger, 2)
    t.deepEqual(
      listed.map(({ id }) => id),
      ['4', '5'],
    )
    t.like((await listUnsettled(ledger, 200))[2], {
      id: '1',
      orderId: 'order-1',
      reason: 'not_approved',
      tries: 3,
      price: undefined,
    })
  },
)

test.serial('orders are counted by the path of their statuses', async (t) => {
  await ledger.query(
    `INSERT INTO order_ledger (order_id, origin, source_ref, path, path_epoch, path_reason, state, routing_key, body, body_sha256, submitted_at, status_path)
     SELECT n, 'shop', n, 'direct', 1, '{}', 'accepted', 'order.submitted', '', '', now(), status_path
     FROM (VALUES ('a', 'direct'), ('b', 'legacy'), ('c', 'direct'), ('d', NULL)) AS v(n, status_path)`,
  )
  t.deepEqual(await countPinned(ledger), { direct: 2, legacy: 1 })
})

test.serial(
  'accepting opens it for the applier, dropping ends it; both are recorded',
  async (t) => {
    const by = { who: 'olga', why: 'asked the operator' }
    const accepted = await decideStatus(ledger, { id: '1', decision: 'accepted', ...by })
    t.like(accepted, { orderId: 'order-1', status: 'SHIPPED', reason: 'not_approved' })
    await decideStatus(ledger, { id: '4', decision: 'accepted', ...by })
    await decideStatus(ledger, { id: '5', decision: 'dropped', ...by })
    const { rows } = await ledger.query(
      `SELECT id::int, state, accepted, who, settled_at IS NOT NULL AS settled FROM status_inbox WHERE id IN (1, 4, 5) ORDER BY id`,
    )
    t.deepEqual(rows, [
      { id: 1, state: 'open', accepted: true, who: 'olga', settled: false },
      { id: 4, state: 'open', accepted: true, who: 'olga', settled: false },
      { id: 5, state: 'dropped', accepted: false, who: 'olga', settled: true },
    ])
    const notes = await ledger.query(
      'SELECT order_id, hop, actor, detail FROM order_event ORDER BY seq',
    )
    t.is(notes.rowCount, 3)
    t.deepEqual(notes.rows[2], {
      order_id: 'order-5',
      hop: 'status inbox',
      actor: 'olga',
      detail: { dropped: '5', status: 'GONE', price: null, was: 'unknown_status', why: by.why },
    })
  },
)

test.serial(
  'what is settled, open, unknown, or has nothing in it, is refused and unchanged',
  async (t) => {
    const before = await ledger.query('SELECT * FROM status_inbox ORDER BY id')
    for (const [id, decision, says] of [
      ['2', 'accepted', /2 is open, .*strangler order order-2/],
      ['3', 'dropped', /3 is applied, .*strangler order order-3/],
      ['5', 'accepted', /unknown_status.*reconcile --redrive/],
      ['7', 'dropped', /has no 7; "strangler statuses"/],
    ] as const) {
      await t.throwsAsync(decideStatus(ledger, { id, decision, who: 'olga', why: 'so' }), {
        message: says,
      })
    }
    t.deepEqual((await ledger.query('SELECT * FROM status_inbox ORDER BY id')).rows, before.rows)
    t.is((await ledger.query('SELECT FROM order_event')).rowCount, 0)
  },
)
