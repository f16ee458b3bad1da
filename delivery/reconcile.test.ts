import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import test from 'ava'

import { legacySides } from '../adapters/wire/reconcile-sides.ts'
import type { Difference } from './difference.ts'
import { listed, startPlantation } from './reconcile-under-test.ts'
import { reconcile } from './reconcile.ts'

const estate = await startPlantation()
const { shop, ledger, mes, plant, differences } = estate
test.after.always(() => estate.stop())
test.beforeEach(() => estate.clear())

test.serial(
  'finds exactly what was planted, and nothing in what is fine or under way',
  async (t) => {
    for (let n = 0; n < 20; n += 1) {
      await plant({ path: n % 2 === 0 ? 'legacy' : 'direct' })
      await plant({ status: 'CLOSED', price: '12.50' })
    }
    // Under way: within the watermark nothing of this is a difference.
    await plant({ young: true, state: 'accepted', mesStatus: undefined })
    await plant({ young: true, mesStatus: undefined })
    await plant({ young: true, path: 'legacy', mail: [], mesStatus: undefined, state: 'accepted' })
    await plant({
      young: true,
      status: 'MANUFACTURING_APPROVED',
      mesStatus: 'PRICE_CALCULATED',
      price: '1.00',
    })
    await plant({ young: true, inShop: false, inLedger: false })
    // Before our time: the Shop took it, the trigger was not there.
    const before = await plant({ inLedger: false })
    await shop.query('DELETE FROM strangler.outbox WHERE order_id = $1', [before])

    const expected = [
      `lost ${await plant({ path: 'legacy', mail: [], mesStatus: undefined, state: 'accepted' })} back to CRM`,
      `lost ${await plant({ path: 'legacy', mesStatus: undefined })} forward again`,
      `lost ${await plant({ mesStatus: undefined })} send again`,
      `lost ${await plant({ mesStatus: undefined, state: 'dead' })} send again`,
      `lost ${await plant({ path: 'legacy', status: 'SHIPPED', mesStatus: undefined, price: '1.00' })} -`,
      `stuck ${await plant({ mesStatus: undefined, state: 'accepted' })} ring again (waits)`,
      `stuck ${await plant({ mesStatus: undefined, state: 'sending' })} - (waits)`,
      `stuck ${await plant({ mesStatus: undefined, state: 'in_doubt' })} - (waits)`,
      `stuck ${await plant({ path: 'legacy', mail: [], claimed: false, mesStatus: undefined, state: 'accepted' })} - (waits)`,
      `stuck ${await plant({ path: 'legacy', inLedger: false, mail: [] })} -`,
      `stuck ${await plant({ status: 'MANUFACTURING_APPROVED', mesStatus: 'PRICE_CALCULATED', price: '1.00' })} decide again`,
      `stuck ${await plant({ status: 'CLOSED', mesStatus: 'SHIPPED', price: '1.00' })} decide again`,
      `stuck ${await plant({ status: 'SUBMITTED', mesStatus: 'PRICE_CALCULATED', mesPrice: '1.00' })} -`,
      `duplicate ${await plant({ mesRows: 2 })} -`,
      `ghost ${await plant({ inShop: false, inLedger: false })} -`,
      `price mismatch ${await plant({ status: 'PRICE_CALCULATED', price: '12.50', mesPrice: '12.51' })} -`,
    ]
    t.deepEqual(listed(await differences()), expected.toSorted())
  },
)

test.serial(
  'an order that the MES had and archived is reported, and never sent again',
  async (t) => {
    const gone = { mesStatus: undefined, price: '1.00' }
    const expected: string[] = []
    for (const state of ['delivered', 'accepted', 'dead']) {
      expected.push(
        `lost ${await plant({ ...gone, status: 'CLOSED', state })} -`,
        // The Shop is behind: only the bridge saw what the MES told.
        `lost ${await plant({ ...gone, state, mail: ['order.price_calculated'] })} -`,
      )
    }
    t.deepEqual(listed(await differences()), expected.toSorted())
  },
)

test.serial('an order that is tried again for ever is stuck all the same', async (t) => {
  const waiting = await plant({ state: 'accepted', mesStatus: undefined })
  const sending = await plant({ state: 'sending', mesStatus: undefined })
  const redriven = await plant({ state: 'accepted', mesStatus: undefined })
  await ledger.query('UPDATE order_ledger SET sending_at = now(), attempts = 400')
  await ledger.query(
    `INSERT INTO order_event (order_id, hop, kind, actor) VALUES ($1, 'redrive', 'note', 'ann')`,
    [redriven],
  )
  t.deepEqual(
    listed(await differences()),
    [`stuck ${waiting} ring again (waits)`, `stuck ${sending} - (waits)`].toSorted(),
  )
})

const priced = { status: 'PRICE_CALCULATED', price: '12.30' }
const started = { status: 'MANUFACTURING_STARTED' }

test.serial(
  'a Shop that is behind the MES: what can be told again, and what is left to a person',
  async (t) => {
    const behind = { status: 'SUBMITTED', mesStatus: 'PRICE_CALCULATED', mesPrice: '12.30' }
    const atWork = {
      status: 'MANUFACTURING_APPROVED',
      price: '12.30',
      mesStatus: 'MANUFACTURING_STARTED',
    }
    const otherPrice = { status: 'PRICE_CALCULATED', price: '12.31', mesPrice: '12.30' }
    const direct = { statusPath: 'direct' } as const
    const legacy = { statusPath: 'legacy' } as const
    // Equal, and within the watermark: no differences.
    await plant({ ...direct, ...priced, told: [priced] })
    await plant({ ...direct, ...behind, young: true, told: [priced] })
    const waiting = await plant({ ...direct, ...atWork, told: [started] })
    const parked = await plant({ ...direct, ...behind, told: [priced] })
    const expected = [
      `stuck ${await plant({ ...direct, ...behind })} tell the Shop`,
      `stuck ${await plant({ ...direct, ...atWork })} tell the Shop`,
      `price mismatch ${await plant({ ...direct, ...otherPrice })} tell the Shop`,
      `price mismatch ${await plant({ ...direct, ...otherPrice, status: 'CLOSED' })} tell the Shop`,
      `stuck ${await plant({ ...legacy, ...behind, told: [priced] })} tell CRM again (waits)`,
      `stuck ${await plant({ ...legacy, ...atWork, told: [priced, started] })} tell CRM again (waits)`,
      `price mismatch ${await plant({ ...legacy, ...otherPrice, told: [priced] })} tell CRM again`,
      // Nothing on record.
      `stuck ${await plant({ ...legacy, ...behind })} -`,
      `stuck ${await plant({ ...legacy, ...atWork, told: [priced] })} -`,
      `stuck ${await plant(behind)} -`,
      // It would undo what CRM has set.
      `price mismatch ${await plant({ ...legacy, ...otherPrice, status: 'CLOSED', told: [priced, { status: 'SHIPPED' }] })} -`,
      `stuck ${await plant({ ...legacy, ...atWork, status: 'PRICE_CALCULATED', told: [priced, started] })} - (waits)`,
      // CRM's to write.
      `stuck ${await plant({ ...direct, status: 'PRICE_CALCULATED', price: '1.00', mesStatus: 'MANUFACTURING_APPROVED' })} -`,
      `stuck ${await plant({ ...direct, status: 'SHIPPED', price: '1.00', mesStatus: 'CLOSED' })} -`,
      // Ahead of the MES.
      `stuck ${await plant({ ...direct, status: 'SHIPPED', price: '1.00', mesStatus: 'PACKAGING' })} -`,
      `stuck ${waiting} - (waits)`,
      `stuck ${parked} - (waits)`,
    ]
    const written = await plant({ ...direct, ...otherPrice })
    await shop.query(
      `INSERT INTO strangler.late_writes (order_id, col, old, new, kept, role) VALUES ($1, 'price', '12.30', '12.31', true, 'shop')`,
      [written],
    )
    const held = await plant({ ...legacy, ...behind, told: [priced] })
    await ledger.query(
      `UPDATE bridge_inbox SET state = 'held' WHERE order_id = $1 AND queue = 'crm.events'`,
      [held],
    )
    expected.push(`price mismatch ${written} -`, `stuck ${held} - (waits)`)
    await ledger.query(
      `INSERT INTO status_inbox (id, order_id, status, received_at, state, reason)
     VALUES (1, $1, 'MANUFACTURING_STARTED', now() - interval '1 hour', 'waiting', 'row_held'),
       (2, $2, 'GONE', now() - interval '1 hour', 'parked', 'unknown_status')`,
      [waiting, parked],
    )
    const found = await differences()
    t.deepEqual(listed(found), expected.toSorted())
    const says = (id: string): string | undefined =>
      found.find(({ orderId }) => orderId === id)?.says
    t.regex(says(waiting)!, /its status 1 is waiting in the status inbox \(row_held\)/)
    t.regex(says(parked)!, /its status 2 is parked in the status inbox \(unknown_status\)/)
    t.regex(says(held)!, /order\.price_calculated is held at the bridge/)
  },
)

test.serial('a status that waits for less than the watermark is under way', async (t) => {
  const id = await plant({
    statusPath: 'direct',
    status: 'SUBMITTED',
    mesStatus: 'PRICE_CALCULATED',
    mesPrice: '12.30',
  })
  await ledger.query(
    `INSERT INTO status_inbox (id, order_id, status, received_at, state) VALUES (1, $1, 'PRICE_CALCULATED', now(), 'open')`,
    [id],
  )
  t.deepEqual(await differences(), [])
})

test.serial('the books show what the ledger lacks, or has on another path', async (t) => {
  for (let n = 0; n < 3; n += 1) await plant({ path: 'legacy' })
  await plant({ young: true, inLedger: false })
  const well = (await compared()).books
  t.is(well.unbalanced.length, 0)
  t.true(well.pages >= 1)
  const lacking = await plant({ path: 'legacy', inLedger: false, mail: [] })
  const moved = await plant({ path: 'legacy' })
  await ledger.query(`UPDATE order_ledger SET path = 'direct', owner_id = 1 WHERE order_id = $1`, [
    moved,
  ])
  const { unbalanced } = (await compared()).books
  t.deepEqual(
    [...new Set(unbalanced.flatMap(({ orderIds }) => orderIds))].toSorted(),
    [lacking, moved].toSorted(),
  )
  t.like(
    unbalanced.find(({ path }) => path === 'direct'),
    { accepted: 0, delivered: 1, orderIds: [moved] },
  )
})

test.serial('an open order whose model the store does not have is named', async (t) => {
  const modelDirectory = mkdtempSync(join(tmpdir(), 'strangler-models-'))
  writeFileSync(join(modelDirectory, 'here'), 'abc')
  const found: string[] = []
  for (const [status, key] of [
    ['SUBMITTED', 'here'],
    ['SUBMITTED', 'gone'],
    ['CLOSED', 'archived'],
  ] as const) {
    const id = await plant({ status })
    await shop.query(
      'UPDATE public.orders SET model_key = $2, model_bytes = 3, updated_at = updated_at WHERE id = $1',
      [id, key],
    )
    if (key === 'gone') found.push(`model missing ${id} -`)
  }
  t.deepEqual(listed((await compared({ modelDirectory })).differences), found)
  t.deepEqual(listed(await differences()), [], 'without a store nothing is said of models')
  rmSync(modelDirectory, { recursive: true })
})

async function compared(options: { modelDirectory?: string } = {}) {
  const found: Difference[] = []
  const { books } = await reconcile({
    ledger,
    legacy: legacySides(shop, mes),
    watermarkMs: 60_000,
    ...options,
    onDifferences: (some) => void found.push(...some),
  })
  return { books, differences: found }
}
