import test from 'ava'

import { shopStatusTarget } from '../adapters/statuses/shop-status-target.ts'
import { readMesEvent } from '../adapters/wire/mes-event.ts'
import { legacySides } from '../adapters/wire/reconcile-sides.ts'
import { createLog } from '../runtime/log.ts'
import { waitUntil } from '../test/wait-until.ts'
import type { Difference } from './difference.ts'
import { startPlantation } from './reconcile-under-test.ts'
import { redriveStatus } from './redrive-status.ts'
import type { StatusPorts } from './redrive-status.ts'
import { StatusApplier } from './status-applier.ts'

const estate = await startPlantation()
const { ledger, shop, mes, plant, differences } = estate
test.after.always(() => estate.stop())
test.beforeEach(() => estate.clear())

const sides = legacySides(shop, mes)
const ports: StatusPorts = {
  eventsQueue: 'crm.events',
  mayBeUnderwayToCrm: async () => 'no',
  now: async (id) => ({
    shop: (await sides.shopOrders([id]))[0],
    mes: (await sides.mesOrders([id])).get(id),
  }),
  readEvent: readMesEvent,
}

function redrive({ orderId, remedy, says }: Difference, with_: Partial<StatusPorts> = {}) {
  if (remedy?.act !== 'tell the Shop' && remedy?.act !== 'tell CRM again')
    throw new Error(`no remedy of a status: ${remedy?.act}`)
  return redriveStatus(ledger, { ...ports, ...with_ }, { orderId, remedy, says, who: 'ann@test' })
}

async function apply(orderIds: readonly string[]): Promise<void> {
  const applier = new StatusApplier({
    ledger,
    target: shopStatusTarget(shop),
    listen: undefined,
    log: createLog('test'),
    mayTake: () => true,
    quietMs: 0,
  })
  for (const id of orderIds) await applier.apply(id)
}

async function inShop(id: string): Promise<unknown> {
  const { rows } = await shop.query(
    'SELECT status, price::text, currency FROM public.orders WHERE id = $1',
    [id],
  )
  return rows[0]
}

const behind = { status: 'SUBMITTED', mesStatus: 'PRICE_CALCULATED', mesPrice: '12.30' }
const priced = { status: 'PRICE_CALCULATED', price: '12.30' }

test.serial(
  'what the Shop lacks comes from the MES row into the inbox, and the applier brings it up',
  async (t) => {
    const direct = { statusPath: 'direct' } as const
    const first = await plant({ ...direct, ...behind })
    const later = await plant({
      ...direct,
      status: 'MANUFACTURING_APPROVED',
      price: '12.30',
      mesStatus: 'SHIPPED',
    })
    const wrong = await plant({ ...direct, status: 'CLOSED', price: '12.31', mesPrice: '12.30' })
    const found = await differences()
    t.is(found.length, 3)
    for (const difference of found) t.is(await redrive(difference), 'done')
    // Again, at once: what waits is not doubled.
    for (const difference of found) t.is(await redrive(difference), 'changed meanwhile')
    t.is((await ledger.query('SELECT FROM status_inbox')).rowCount, 3)
    await apply([first, later, wrong])
    t.deepEqual(await inShop(first), { ...priced, currency: 'EUR' })
    t.like(await inShop(later), { status: 'SHIPPED', price: '12.30' })
    t.like(await inShop(wrong), { status: 'CLOSED', price: '12.30' })
    const { rows } = await ledger.query<{ state: string; newer: boolean }>(
      `SELECT s.state, NOT EXISTS (SELECT FROM bridge_inbox b WHERE b.id >= s.id) AS newer
     FROM order_event e JOIN status_inbox s ON s.id = (e.detail ->> 'statusInbox')::bigint AND s.order_id = e.order_id
     WHERE e.hop = 'redrive' AND e.actor = 'ann@test'`,
    )
    t.deepEqual(
      rows,
      Array.from({ length: 3 }, () => ({ state: 'applied', newer: true })),
    )
    t.deepEqual(await differences(), [])
  },
)

test.serial(
  'through CRM the bridge sends again what it has on record, a price before the status',
  async (t) => {
    const id = await plant({
      statusPath: 'legacy',
      status: 'MANUFACTURING_APPROVED',
      price: '12.31',
      mesStatus: 'MANUFACTURING_STARTED',
      mesPrice: '12.30',
      told: [{ ...priced, price: '12.29' }, priced, { status: 'MANUFACTURING_STARTED' }],
    })
    const [difference] = await differences()
    t.is(await redrive(difference!), 'done')
    const { rows } = await ledger.query(
      `SELECT state, settled_at IS NULL AS again FROM bridge_inbox WHERE order_id = $1 AND queue = 'crm.events' ORDER BY id`,
      [id],
    )
    t.deepEqual(rows, [
      { state: 'forwarded', again: false },
      { state: 'held', again: true },
      { state: 'held', again: true },
    ])
    t.is((await ledger.query(`SELECT FROM order_event WHERE hop = 'redrive'`)).rowCount, 1)
    t.is(await redrive(difference!), 'may be under way')
    t.is((await ledger.query('SELECT FROM status_inbox')).rowCount, 0)
  },
)

test.serial('without evidence nothing is told again', async (t) => {
  const legacy = await plant({ statusPath: 'legacy', ...behind, told: [priced] })
  const direct = await plant({ statusPath: 'direct', ...behind })
  const found = await differences()
  const of = (id: string): Difference => found.find(({ orderId }) => orderId === id)!
  t.is(await redrive(of(legacy), { mayBeUnderwayToCrm: async () => 'maybe' }), 'may be under way')
  await ledger.query(`UPDATE bridge SET state = 'absent' WHERE queue = 'crm.events'`)
  t.regex(await redrive(of(legacy)), /^refused: /)
  await ledger.query(`UPDATE bridge SET state = 'inserted'`)
  // What is on record is another price than the MES has.
  await ledger.query(
    `UPDATE bridge_inbox SET body = convert_to(replace(convert_from(body, 'UTF8'), '12.30', '12.29'), 'UTF8') WHERE order_id = $1`,
    [legacy],
  )
  t.regex(await redrive(of(legacy)), /^left to a person: /)
  // Something of it came, and waits for a person.
  await ledger.query(
    `INSERT INTO status_inbox (id, order_id, received_at, state) VALUES (1, $1, now(), 'parked')`,
    [direct],
  )
  t.is(await redrive(of(direct)), 'changed meanwhile')
  await ledger.query('TRUNCATE status_inbox')
  // Somebody has changed the price by hand since.
  await shop.query(
    `INSERT INTO strangler.late_writes (order_id, col, kept, role) VALUES ($1, 'price', true, 'shop')`,
    [direct],
  )
  t.is(await redrive(of(direct)), 'changed meanwhile')
  await shop.query('TRUNCATE strangler.late_writes')
  // It went on by itself.
  for (const id of [legacy, direct]) {
    await shop.query(
      `UPDATE public.orders SET status = 'PRICE_CALCULATED', price = 12.30 WHERE id = $1`,
      [id],
    )
    t.is(await redrive(of(id)), 'changed meanwhile')
  }
  t.is((await ledger.query('SELECT FROM order_event')).rowCount, 0)
  t.is((await ledger.query('SELECT FROM status_inbox')).rowCount, 0)
  t.is((await ledger.query(`SELECT FROM bridge_inbox WHERE state = 'held'`)).rowCount, 0)
})

test.serial('messages that would leave CRM at another status are not sent again', async (t) => {
  await plant({
    statusPath: 'legacy',
    status: 'MANUFACTURING_STARTED',
    price: '12.31',
    mesPrice: '12.30',
    told: [{ status: 'MANUFACTURING_STARTED' }, priced],
  })
  const [difference] = await differences()
  t.is(difference?.remedy?.act, 'tell CRM again')
  t.regex(await redrive(difference!), /^left to a person: /)
})

test.serial(
  'two people at once: the second waits for the first, and it is told once',
  async (t) => {
    const id = await plant({ statusPath: 'direct', ...behind })
    const [difference] = await differences()
    const first = await ledger.connect()
    try {
      await first.query('BEGIN')
      await first.query('SELECT FROM order_ledger WHERE order_id = $1 FOR UPDATE', [id])
      await first.query(
        `INSERT INTO status_inbox (id, order_id, received_at, state) VALUES (1, $1, now(), 'open')`,
        [id],
      )
      let ended = false
      const second = redrive(difference!).finally(() => {
        ended = true
      })
      await waitUntil('the second to wait', async () => {
        const { rowCount } = await ledger.query('SELECT FROM pg_locks WHERE NOT granted')
        return ended || rowCount === 1
      })
      await first.query('COMMIT')
      t.is(await second, 'changed meanwhile')
    } finally {
      first.release()
    }
    t.is((await ledger.query('SELECT FROM status_inbox')).rowCount, 1)
  },
)
