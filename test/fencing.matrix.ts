import test from 'ava'

import type { Estate } from '../estate/estate.ts'
import { withClient } from '../estate/postgres-server.ts'
import { advancePhase } from '../flags/phase-journal.ts'
import { readReplicas } from '../flags/replicas.ts'
import { createLog } from '../runtime/log.ts'
import { createPool, type Pool } from '../runtime/postgres.ts'
import { expectEachOnce, reaches, startDirectWay } from './direct-way-fixture.ts'
import { submitOrders } from './shop-orders-by-sql.ts'
import { waitUntil } from './wait-until.ts'

/**
 * Three proxies, two relays, two couriers, an applier and a bridge acknowledge epochs. One of them is frozen across a flip: the flip
 * waits until its lease is over, and when it thaws it takes up nothing before it has acknowledged.
 */
let estate: Estate
let ledger: Pool
let shop: Pool

const anyPort = {
  SHOP_LISTEN_PORT: '0',
  CRM_LISTEN_PORT: '0',
  MES_LISTEN_PORT: '0',
  SHOP_UPSTREAM: 'http://127.0.0.1:1',
  CRM_UPSTREAM: 'http://127.0.0.1:1',
  MES_UPSTREAM: 'http://127.0.0.1:1',
}

test.before(async () => {
  estate = await startDirectWay({
    without: ['proxy', 'shadow'],
    settings: { courier: { COURIER_CHILDREN: '2' } },
  })
  for (let n = 0; n < 3; n += 1) await estate.launch('proxy', anyPort)
  const inserted = await estate.strangler('bridge', 'insert')
  if (inserted.code !== 0) throw new Error(inserted.stderr)
  const log = createLog('test')
  ledger = createPool(estate.databases.ledger, { name: 'test', log })
  shop = createPool(estate.databases.shop, { name: 'test', log })
})
test.after.always(async () => {
  await ledger?.end()
  await shop?.end()
  await estate?.stop()
})

const act = { phase: 'orders-direct', who: 'test', why: 'fencing' } as const

test.serial('everybody acknowledges a flip before it is complete', async (t) => {
  await waitUntil('all replicas are there', async () => (await readReplicas(ledger)).length === 8)
  const moved = await advancePhase({ ...act, ledger, seam: shop, share: 1000 })
  t.true(moved.complete)
  const replicas = await readReplicas(ledger)
  t.deepEqual(
    replicas.map(({ kind, epochs }) => [kind, epochs['orders-direct']]),
    ['applier', 'bridge', 'courier', 'courier', 'proxy', 'proxy', 'proxy', 'relay'].map((kind) => [
      kind,
      moved.epoch,
    ]),
  )
})

for (const [name, share] of [
  ['relay', 3000],
  ['proxy', 5000],
  ['applier', 7000],
  ['bridge', 9000],
] as const) {
  test.serial(
    `a frozen ${name}: the flip waits for its lease, and it takes up nothing late`,
    async (t) => {
      const frozen = estate.process(name)
      const second = name === 'relay' ? await estate.launch('relay') : undefined
      await waitUntil('the second one is there', async () =>
        second === undefined
          ? true
          : (await readReplicas(ledger)).some(({ pid }) => pid === second.pid),
      )
      const before = await submitOrders(estate, 20)
      frozen.pause()
      const early = await advancePhase({ ...act, ledger, seam: shop, share, completeWithinMs: 0 })
      const during = await submitOrders(estate, 20)
      t.true(early.changed)
      // In force for everybody from here on; complete only once the frozen one has lost its lease.
      await waitUntil('the flip is complete', async () => {
        const moved = await advancePhase({ ...act, ledger, seam: shop, share })
        return moved.complete
      })
      const silent = (await readReplicas(ledger)).find(({ pid }) => pid === frozen.pid)
      t.like(silent, { lapsed: true, epochs: { 'orders-direct': early.epoch - 1 } })
      if (name === 'relay')
        await waitUntil('the other relay works', async () => (await unrelayed()) === 0)

      const lines: string[] = []
      const off = frozen.onLine((line) => lines.push(line))
      frozen.resume()
      await waitUntil('it has acknowledged', async () =>
        (await readReplicas(ledger)).some(
          ({ pid, epochs }) => pid === frozen.pid && epochs['orders-direct'] === early.epoch,
        ),
      )
      await waitUntil('it says so', () =>
        Promise.resolve(lines.some((line) => line.includes('"lease_taken"'))),
      )
      off()
      t.true(lines.some((line) => line.includes('"lease_lost"')))
      const after = await submitOrders(estate, 20)
      await expectEachOnce(t, estate, [...before, ...during, ...after])
      await expectEpochs(t, [
        [before, early.epoch - 1],
        [during, early.epoch],
        [after, early.epoch],
      ])
      await second?.terminate()
    },
  )
}

test.serial('a bridge that is frozen inside a transaction holds up no flip', async (t) => {
  // What is still told of earlier orders would freeze it before it is ready.
  await waitUntil('the MES has told all', () =>
    withClient(estate.databases.mes, async (client) => {
      const { rows } = await client.query<{ left: number }>(
        `SELECT (SELECT count(*) FROM orders WHERE status = 'SUBMITTED')::int
           + (SELECT count(*) FROM outgoing_events WHERE published_at IS NULL)::int AS left`,
      )
      return rows[0]!.left === 0
    }),
  )
  await waitUntil('the bridges have taken all', () =>
    withClient(estate.databases.broker, async (client) => {
      const { rows } = await client.query('SELECT FROM amq.message LIMIT 1')
      return rows.length === 0
    }),
  )
  await estate.process('bridge').terminate()
  const frozen = await estate.launch('bridge', { FAILPOINTS: 'bridge.settling=stop' })
  const reached = reaches(estate, 'bridge', 'bridge.settling')
  const ids = await submitOrders(estate, 20)
  await reached
  const moved = await advancePhase({ ...act, ledger, seam: shop, share: 9500 })
  t.true(moved.complete)
  frozen.resume()
  await expectEachOnce(t, estate, ids)
})

async function unrelayed(): Promise<number> {
  const { rows } = await shop.query<{ n: number }>(
    'SELECT count(*)::int AS n FROM strangler.outbox WHERE relayed_at IS NULL',
  )
  return rows[0]!.n
}

/** Outbox and ledger name the epoch of the order's decision; none is under a stale one. */
async function expectEpochs(
  t: { deepEqual(actual: unknown, expected: unknown): unknown },
  groups: readonly (readonly [readonly string[], number])[],
): Promise<void> {
  for (const [ids, epoch] of groups) {
    for (const [database, sql] of [
      [
        estate.databases.shop,
        'SELECT DISTINCT epoch FROM strangler.outbox WHERE order_id = ANY($1::uuid[])',
      ],
      [
        estate.databases.ledger,
        'SELECT DISTINCT path_epoch AS epoch FROM order_ledger WHERE order_id = ANY($1::text[])',
      ],
    ] as const) {
      const rows = await withClient(
        database,
        async (client) => (await client.query(sql, [ids])).rows,
      )
      t.deepEqual(rows, [{ epoch }])
    }
  }
}
