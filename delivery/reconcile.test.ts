import test from 'ava'

import { listed, startPlantation } from './reconcile-under-test.ts'

const estate = await startPlantation()
const { shop, ledger, plant, differences } = estate
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
      `stuck ${await plant({ mesStatus: undefined, state: 'accepted' })} ring again`,
      `stuck ${await plant({ mesStatus: undefined, state: 'sending' })} -`,
      `stuck ${await plant({ mesStatus: undefined, state: 'in_doubt' })} -`,
      `stuck ${await plant({ path: 'legacy', mail: [], claimed: false, mesStatus: undefined, state: 'accepted' })} -`,
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
    [`stuck ${waiting} ring again`, `stuck ${sending} -`].toSorted(),
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
      `stuck ${await plant({ ...legacy, ...behind, told: [priced] })} tell CRM again`,
      `stuck ${await plant({ ...legacy, ...atWork, told: [priced, started] })} tell CRM again`,
      `price mismatch ${await plant({ ...legacy, ...otherPrice, told: [priced] })} tell CRM again`,
      // Nothing on record.
      `stuck ${await plant({ ...legacy, ...behind })} -`,
      `stuck ${await plant({ ...legacy, ...atWork, told: [priced] })} -`,
      `stuck ${await plant(behind)} -`,
      // It would undo what CRM has set.
      `price mismatch ${await plant({ ...legacy, ...otherPrice, status: 'CLOSED', told: [priced, { status: 'SHIPPED' }] })} -`,
      `stuck ${await plant({ ...legacy, ...atWork, status: 'PRICE_CALCULATED', told: [priced, started] })} -`,
      // CRM's to write.
      `stuck ${await plant({ ...direct, status: 'PRICE_CALCULATED', price: '1.00', mesStatus: 'MANUFACTURING_APPROVED' })} -`,
      `stuck ${await plant({ ...direct, status: 'SHIPPED', price: '1.00', mesStatus: 'CLOSED' })} -`,
      // Ahead of the MES.
      `stuck ${await plant({ ...direct, status: 'SHIPPED', price: '1.00', mesStatus: 'PACKAGING' })} -`,
      `stuck ${waiting} -`,
      `stuck ${parked} -`,
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
    expected.push(`price mismatch ${written} -`, `stuck ${held} -`)
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
