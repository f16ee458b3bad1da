import { randomUUID } from 'node:crypto'

import test from 'ava'

import { admitOrders, killPhase } from '../../flags/phase-journal.ts'
import { createLog } from '../../runtime/log.ts'
import { createPool } from '../../runtime/postgres.ts'
import { startEstateDatabases } from '../../test/estate-databases.ts'
import { pinStatusPaths } from './status-paths.ts'

const estate = await startEstateDatabases()
const { ledger } = estate
const act = { ledger, seam: ledger, phase: 'statuses-direct', who: 'ann', why: 'a test' } as const
test.after.always(() => estate.stop())

async function openOrders(count: number): Promise<string[]> {
  const ids = Array.from({ length: count }, () => randomUUID())
  await ledger.query(
    `INSERT INTO order_ledger (order_id, origin, source_ref, path, path_epoch, path_reason, state, routing_key, body, body_sha256,
       submitted_at, delivered_at)
     SELECT id, 'shop', id, 'legacy', 0, '{}', 'delivered', 'order.submitted', '', '', now(), now() FROM unnest($1::text[]) id`,
    [ids],
  )
  return ids
}

test.serial('an exact count: 4 bridges, 200 orders at once: exactly 5', async (t) => {
  await admitOrders({ ...act, tokens: 5 })
  const log = createLog('test')
  const bridges = Array.from({ length: 4 }, () =>
    createPool(estate.urls.ledger, { name: 'test', max: 10, log }),
  )
  t.teardown(async () => {
    await Promise.all(bridges.map((each) => each.end()))
  })
  const ids = await openOrders(200)
  const batches = Array.from({ length: 20 }, (_, batch) => ids.slice(batch * 10, batch * 10 + 10))
  // Each batch twice: another bridge may decide the same orders.
  const pinned = await Promise.all(
    [0, 1].flatMap((shift) =>
      batches.map((orders, at) => pinStatusPaths(bridges[(at + shift) % 4]!, orders)),
    ),
  )
  const direct = new Set(
    pinned.flatMap((b) => [...b].flatMap(([id, p]) => (p === 'direct' ? [id] : []))),
  )
  t.is(direct.size, 5)
  const { rows } = await ledger.query<{ rule: string; orders: number }>(
    `SELECT status_reason ->> 'rule' AS rule, count(*)::int AS orders FROM order_ledger WHERE status_path = 'direct' GROUP BY 1`,
  )
  t.deepEqual(rows, [{ rule: 'token', orders: 5 }])
  const left = await ledger.query('SELECT FROM strangler.route_token')
  t.is(left.rowCount, 0)
})

test.serial('after a kill no token is left to take', async (t) => {
  await ledger.query(
    'UPDATE phase SET pin = NULL, pinned_by = NULL, pinned_why = NULL, pinned_at = NULL',
  )
  await admitOrders({ ...act, tokens: 5 })
  const [first, second] = await openOrders(2)
  t.deepEqual([...(await pinStatusPaths(ledger, [first!])).values()], ['direct'])
  await killPhase(act)
  t.deepEqual([...(await pinStatusPaths(ledger, [second!])).values()], ['legacy'])
})
