import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import test from 'ava'

import { takeLifeLock } from '../delivery/life-lock.ts'
import { startEstateDatabases } from '../test/estate-databases.ts'
import { violations } from './invariants.ts'

/** Invariants of statuses: each broken by hand, and seen, with the order that breaks it. */
const estate = await startEstateDatabases()
const { ledger, shop, mes, urls } = estate
test.after.always(() => estate.stop())
test.beforeEach(async () => {
  await ledger.query('TRUNCATE order_ledger, bridge_inbox, status_inbox')
  await shop.query(
    'TRUNCATE public.orders, strangler.outbox, strangler.order_fence, strangler.late_writes',
  )
  await mes.query('TRUNCATE public.orders')
})

async function plant(
  statusPath: 'direct' | 'legacy',
  inShop: readonly [string, string | null],
  inMes: readonly [string, string | null] = inShop,
): Promise<string> {
  const id = randomUUID()
  await ledger.query(
    `INSERT INTO order_ledger (order_id, origin, source_ref, path, path_epoch, path_reason, state, routing_key, body, body_sha256,
       submitted_at, accepted_at, delivered_at, status_path, status_epoch, status_reason)
     VALUES ($1, 'partner:x', $1, 'legacy', 1, '{}', 'delivered', 'order.created', '', '', now(), now(), now(), $2, 1, '{}')`,
    [id, statusPath],
  )
  await shop.query(
    `INSERT INTO public.orders (id, source, status, price, material, quantity) VALUES ($1, 'partner', $2, $3, 'PLA', 1)`,
    [id, ...inShop],
  )
  await mes.query(
    `INSERT INTO public.orders (order_id, source, status, price, model_key, model_sha256, model_bytes, material, quantity)
     VALUES ($1, 'partner', $2, $3, '', '', 1, 'PLA', 1)`,
    [id, ...inMes],
  )
  return id
}

let message = 0
async function tell(id: string, state: string, inInbox?: string): Promise<void> {
  message += 1
  const { rows } = await ledger.query<{ id: string }>(
    `INSERT INTO bridge_inbox (queue, msg_key, order_id, routing_key, exchange, state, body, properties, redelivered, settled_at)
     VALUES ('crm.events', $1, $2, 'order.status_changed', '', $3, '', '{}', false, clock_timestamp()) RETURNING id`,
    [Buffer.from(String(message)), id, state],
  )
  if (inInbox === undefined) return
  await ledger.query(
    `INSERT INTO status_inbox (id, order_id, received_at, state, settled_at)
     VALUES ($1, $2, now(), $3, CASE WHEN $3 NOT IN ('open', 'waiting', 'parked') THEN clock_timestamp() END)`,
    [rows[0]!.id, id, inInbox],
  )
}

async function broken(when: 'any time' | 'quiet'): Promise<[string, string[]][]> {
  const found = await violations({ databases: urls }, when)
  return found.map(({ invariant, orderIds }) => [invariant, orderIds])
}

test.serial(
  'what is well breaks none, also with a status of CRM that the MES does not have yet',
  async (t) => {
    const direct = await plant('direct', ['SHIPPED', '12.30'])
    await tell(direct, 'diverted', 'applied')
    await shop.query(
      'INSERT INTO strangler.order_fence (order_id, epoch, applied_id) VALUES ($1, 1, 1)',
      [direct],
    )
    await plant('direct', ['MANUFACTURING_APPROVED', '1.00'], ['PRICE_CALCULATED', '1.00'])
    const legacy = await plant('legacy', ['SUBMITTED', null], ['PRICE_CALCULATED', '1.00'])
    await tell(legacy, 'forwarded')
    t.deepEqual(await broken('quiet'), [])
  },
)

test.serial('a status on the wrong way is seen at any time', async (t) => {
  const direct = await plant('direct', ['SHIPPED', '1.00'])
  await tell(direct, 'forwarded')
  const legacy = await plant('legacy', ['SHIPPED', '1.00'])
  await tell(legacy, 'diverted', 'applied')
  const nowhere = await plant('direct', ['SHIPPED', '1.00'])
  await tell(nowhere, 'diverted')
  const undecided = await plant('direct', ['SHIPPED', '1.00'])
  await ledger.query('UPDATE order_ledger SET status_epoch = NULL WHERE order_id = $1', [undecided])
  await shop.query(
    `INSERT INTO strangler.late_writes (order_id, col, kept, role) VALUES ($1, 'status', true, 'crm'), ($2, 'status', false, 'crm')`,
    [direct, legacy],
  )
  const found = await broken('any time')
  t.deepEqual(
    found.map(([, ids]) => ids),
    [[direct], [legacy, nowhere], [undecided], [direct]],
  )
})

test.serial('a Shop that has not what the MES has is seen when all is quiet', async (t) => {
  const behind = await plant('direct', ['PRICE_CALCULATED', '1.00'], ['SHIPPED', '1.00'])
  const ahead = await plant('direct', ['SHIPPED', '1.00'], ['PACKAGING', '1.00'])
  const price = await plant('direct', ['SHIPPED', '1.01'], ['SHIPPED', '1.00'])
  const open = await plant('direct', ['SHIPPED', '1.00'])
  await tell(open, 'diverted', 'waiting')
  const fenced = await plant('legacy', ['SHIPPED', '1.00'])
  await shop.query(
    'INSERT INTO strangler.order_fence (order_id, epoch, applied_id) VALUES ($1, 1, 1)',
    [fenced],
  )
  t.deepEqual(await broken('any time'), [])
  t.deepEqual(
    (await broken('quiet')).map(([, ids]) => ids.toSorted()),
    [[open], [fenced], [behind, ahead].toSorted(), [price]],
  )
})

test.serial(
  'owners: a stranger, one who lives, and a second sending without a record',
  async (t) => {
    const direct = await plant('direct', ['SHIPPED', '1.00'])
    const stranger = await plant('direct', ['SHIPPED', '1.00'])
    await ledger.query(
      `UPDATE order_ledger SET path = 'direct', state = 'sending', owner_id = 4711 WHERE order_id = $1`,
      [stranger],
    )
    const life = await takeLifeLock(urls.ledger, () => undefined)
    await note(direct, 'taken over', { from: life.ownerId })
    const again = await plant('direct', ['SHIPPED', '1.00'])
    const recorded = await plant('direct', ['SHIPPED', '1.00'])
    await ledger.query('UPDATE order_ledger SET gen = 1 WHERE order_id = ANY($1::text[])', [
      [again, recorded],
    ])
    await note(again, 'in doubt', { settled: 'delivered' })
    await note(recorded, 'in doubt', { settled: 'proved absent' })
    const found = await broken('any time')
    t.deepEqual(
      found.map(([, ids]) => ids),
      [[stranger], [direct], [again]],
    )
    await life.release()
    await ledger.query('TRUNCATE order_event')
  },
)

test.serial('a model that is gone, or is there only in part', async (t) => {
  const modelDirectory = mkdtempSync(join(tmpdir(), 'strangler-models-'))
  const ids = [] as string[]
  for (const [key, bytes] of [
    ['whole', 3],
    ['part', 2],
    ['gone', undefined],
  ] as const) {
    const id = await plant('direct', ['SHIPPED', '1.00'])
    ids.push(id)
    await shop.query('UPDATE public.orders SET model_key = $2, model_bytes = 3 WHERE id = $1', [
      id,
      key,
    ])
    if (bytes !== undefined) writeFileSync(join(modelDirectory, key), 'x'.repeat(bytes))
  }
  const found = await violations({ databases: urls, modelDirectory }, 'any time')
  t.deepEqual(found.flatMap(({ orderIds }) => orderIds).toSorted(), ids.slice(1).toSorted())
  rmSync(modelDirectory, { recursive: true })
})

test.serial('books that do not balance, by path and minute', async (t) => {
  const id = await plant('direct', ['SHIPPED', '1.00'])
  await ledger.query(
    `UPDATE order_ledger SET origin = 'shop', path = 'direct' WHERE order_id = $1`,
    [id],
  )
  await shop.query(
    `INSERT INTO strangler.outbox (order_id, path, epoch, reason, row, at, relayed_at) VALUES ($1, 'legacy', 1, '{}', '{}', '2026-01-02T03:04:05Z', now())`,
    [id],
  )
  const found = await broken('quiet')
  t.deepEqual(
    found.filter(([invariant]) => invariant.includes('balance')),
    ['direct', 'legacy'].map((path) => [`the books balance (${path}, 2026-01-02T03:04Z)`, [id]]),
  )
})

async function note(id: string, hop: string, detail: object): Promise<void> {
  await ledger.query(
    `INSERT INTO order_event (order_id, hop, kind, actor, detail) VALUES ($1, $2, 'note', 'test', $3)`,
    [id, hop, JSON.stringify(detail)],
  )
}
