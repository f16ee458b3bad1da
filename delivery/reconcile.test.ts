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
