import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'

import test from 'ava'

import { startEmbeddedPostgres } from '../../estate/embedded-postgres.ts'
import { withClient } from '../../estate/postgres-server.ts'
import type { Log } from '../../runtime/log.ts'
import { createPool, type Pool } from '../../runtime/postgres.ts'
import { loadSubmittedOrders } from './load-submitted-orders.ts'
import { shopRelay } from './relay.ts'

const quiet: Log = { info: () => {}, warn: () => {}, error: () => {} }
const good = {
  source: 'shop',
  client_id: null,
  material: 'PLA',
  quantity: 1,
  comment: null,
  model_key: 'k',
  model_sha256: 'ab',
  model_bytes: 1,
}
const spoilt: Record<string, unknown> = {
  model_sha256: { ...good, model_sha256: null },
  quantity: { ...good, quantity: 'three' },
  client_id: { ...good, client_id: 'me' },
  model_bytes: { ...good, model_bytes: 1e300 },
  material: [],
}

// The stop this prevents: one row that fails its batch fails it again with every round, and no order is relayed any more.
test('a row that no message can be made of is dead in the ledger, and the others go on', async (t) => {
  t.timeout(110_000)
  const postgres = await startEmbeddedPostgres()
  const pools: Pool[] = []
  const open = async (name: string, files: string[]): Promise<{ all: Pool; relay: Pool }> => {
    const url = await postgres.createDatabase(name)
    for (const file of files) {
      const text = readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8')
      await withClient(url, (client) => client.query(text))
    }
    const all = createPool(url, { name: 'test', log: quiet })
    const relay = createPool(postgres.urlFor(name, 'relay_login'), { name: 'relay', log: quiet })
    pools.push(all, relay)
    return { all, relay }
  }
  await postgres.createRole('crm')
  await postgres.createRole('relay_login')
  const shop = await open('shop', [
    'legacy/shop/schema.sql',
    'migrations/shop/001_orders_direct.sql',
  ])
  const ledger = await open('ledger', [
    'migrations/strangler/001_ledger.sql',
    'migrations/strangler/002_statuses_direct.sql',
    'migrations/strangler/005_traces.sql',
  ])
  await withClient(postgres.url, (client) => client.query('GRANT strangler_relay TO relay_login'))
  const submit = async (path: string, row: unknown): Promise<string> => {
    const orderId = randomUUID()
    await shop.all.query(
      `INSERT INTO strangler.outbox (order_id, path, epoch, reason, row) VALUES ($1, $2, 3, '{}', $3)`,
      [orderId, path, JSON.stringify(row)],
    )
    return orderId
  }
  const before = await submit('direct', good)
  const bad = new Map<string, string>()
  for (const [column, row] of Object.entries(spoilt)) bad.set(await submit('direct', row), column)
  const legacy = await submit('legacy', spoilt['quantity'])
  const after = await submit('direct', good)

  const rung: string[] = []
  const relay = shopRelay({
    shop: shop.relay,
    ledger: ledger.relay,
    mayTake: () => true,
    ring: (orders) => rung.push(...orders.map(({ orderId }) => orderId)),
    log: quiet,
  })
  await relay.start()
  try {
    for (;;) {
      const { rowCount } = await shop.all.query(
        'SELECT FROM strangler.outbox WHERE relayed_at IS NULL',
      )
      if (rowCount === 0) break
      await delay(20)
    }
    t.deepEqual(rung.toSorted(), [before, after].toSorted())
    const { rows } = await ledger.all.query<Record<string, string>>(
      `SELECT order_id, path, path_epoch, state, dead_reason ->> 'code' AS code, dead_reason ->> 'detail' AS detail FROM order_ledger`,
    )
    const byId = new Map(rows.map((row) => [row['order_id'] ?? '', row]))
    t.is(byId.size, bad.size + 3)
    for (const orderId of [before, after]) {
      t.like(byId.get(orderId), { path: 'direct', state: 'accepted', code: null })
    }
    const dead = { path_epoch: 3, state: 'dead', code: 'malformed_message' }
    for (const [orderId, column] of bad) {
      t.like(byId.get(orderId), { ...dead, path: 'direct' })
      t.true(byId.get(orderId)?.['detail']?.includes(column))
    }
    t.like(byId.get(legacy), { ...dead, path: 'legacy' })
    const loaded = await loadSubmittedOrders(shop.all, [before, legacy])
    t.deepEqual(
      [loaded.readable, loaded.unreadable].map((each) => each.map(({ orderId }) => orderId)),
      [[before], [legacy]],
    )
  } finally {
    await relay.stop()
    await Promise.all(pools.map((pool) => pool.end()))
    await postgres.stop()
  }
})
