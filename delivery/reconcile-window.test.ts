import test from 'ava'

import { readConserved } from '../adapters/gates/conservation.ts'
import { gateSources } from '../adapters/gates/gate-sources.ts'
import { createLog } from '../runtime/log.ts'
import { listed, startPlantation } from './reconcile-under-test.ts'
import type { Plant } from './reconcile-under-test.ts'

const estate = await startPlantation()
const { shop, ledger, mes, urls, plant, differences } = estate
const sources = gateSources(urls, 10_000, createLog('test'))
test.after.always(async () => {
  await sources.close()
  await estate.stop()
})
test.beforeEach(() => estate.clear())

const day = 86_400_000
const conserved = (windowMs = day, isDown = false) =>
  readConserved(sources, { windowMs, watermarkMs: 60_000 }, () => Promise.resolve(isDown))

const closed = { status: 'CLOSED', price: '12.50' } as const
/** An hour ago, so that what is missing is no more under way. */
const wrong: readonly Plant[] = [
  { path: 'legacy', mail: [], mesStatus: undefined, state: 'accepted' },
  { path: 'legacy', mesStatus: undefined },
  { mesStatus: undefined },
  { mesStatus: undefined, state: 'dead' },
  { mesStatus: undefined, state: 'accepted' },
  { mesStatus: undefined, state: 'in_doubt' },
  { path: 'legacy', inLedger: false, mail: [] },
  { status: 'CLOSED', mesStatus: 'SHIPPED', price: '1.00' },
  { status: 'SUBMITTED', mesStatus: 'PRICE_CALCULATED', mesPrice: '1.00' },
  { mesRows: 2 },
  { inShop: false, inLedger: false },
  { status: 'PRICE_CALCULATED', price: '12.50', mesPrice: '12.51' },
  // Settled everywhere but on one side, so that only the sums can show it.
  { ...closed, mesStatus: undefined },
  { ...closed, inLedger: false },
  { ...closed, inShop: false },
  { ...closed, mesPrice: '12.51' },
  { ...closed, mesRows: 2 },
]

test.serial('finds what reconcile finds, and counts all that there is', async (t) => {
  for (let n = 0; n < 30; n += 1) {
    await plant({ path: n % 2 === 0 ? 'legacy' : 'direct' })
    await plant({ ...closed, path: n % 3 === 0 ? 'legacy' : 'direct' })
  }
  const well = await conserved()
  t.deepEqual(listed(well.differences), [])
  t.like(well, { accepted: 60, terminal: 30, inFlight: 30 })

  const ids: string[] = []
  for (const each of wrong) ids.push(await plant(each))
  const found = await conserved()
  t.deepEqual(listed(found.differences), listed(await differences()))
  const named = new Set(found.differences.map(({ orderId }) => orderId))
  t.deepEqual(
    ids.filter((id) => !named.has(id)),
    [],
    'each is found',
  )
  t.is(found.accepted, 60 + wrong.length)
  t.is(found.terminal, 30)
  // With the two of the planted ones that wait where they are known.
  t.is(found.inFlight, 32)
})

test.serial(
  'what is closed and older than the window is not looked at, what is open is',
  async (t) => {
    await plant({ ...closed, inLedger: false })
    const open = await plant({ mesStatus: undefined })
    const found = await conserved(600_000)
    t.deepEqual(
      found.differences.map(({ orderId }) => orderId),
      [open],
    )
    t.like(found, { accepted: 1, terminal: 0, inFlight: 0 })
  },
)

test.serial(
  'what lies across the edge of the window on one side only is no difference',
  async (t) => {
    const id = await plant({ ...closed })
    await shop.query(`UPDATE strangler.outbox SET at = now() - interval '3 hours'`)
    for (const windowMs of [2 * 3_600_000, 4 * 3_600_000]) {
      const found = await conserved(windowMs)
      t.deepEqual(found.differences, [], id)
      t.like(found, { accepted: 1, terminal: 1 })
    }
  },
)

test.serial(
  'sums that differ for their order alone, or cancel each other, hide nothing',
  async (t) => {
    // Two that are missing on different sides, in one bucket: the counts are equal.
    const a = await plant({ ...closed, mesStatus: undefined })
    const b = await plant({ ...closed, inShop: false })
    const same = `${b.slice(0, -3)}${a.slice(-3)}`
    await ledger.query(
      'UPDATE order_ledger SET order_id = $2, source_ref = $2 WHERE order_id = $1',
      [b, same],
    )
    await mes.query('UPDATE public.orders SET order_id = $2 WHERE order_id = $1', [b, same])
    const found = await conserved()
    t.deepEqual(found.differences.map(({ orderId }) => orderId).toSorted(), [a, same].toSorted())
  },
)

test.serial(
  'an order in the queue of a MES that is down, or that comes on, is on its way',
  async (t) => {
    // The last that the MES took in was an hour and a minute ago.
    await plant({})
    await mes.query(`UPDATE public.orders SET received_at = received_at - interval '1 minute'`)
    const id = await plant({ mesStatus: undefined })
    const down = await conserved(day, true)
    t.deepEqual(down.differences, [])
    t.is(down.inFlight, 2)
    t.is(down.inMesQueue?.orders, 1)
    t.true(down.inMesQueue!.oldestMs > 3_500_000)
    // It is up and takes in nothing.
    t.deepEqual(
      (await conserved()).differences.map(({ orderId }) => orderId),
      [id],
    )
    // It comes on: just now it took in one that was sent before, and this one is behind that in its queue.
    const earlier = await plant({})
    await ledger.query(
      `UPDATE order_ledger SET delivered_at = delivered_at - interval '10 minutes' WHERE order_id = $1`,
      [earlier],
    )
    await mes.query('UPDATE public.orders SET received_at = now() WHERE order_id = $1', [earlier])
    t.deepEqual((await conserved()).differences, [])
    // It is down, and took in one that was sent later.
    const later = await plant({})
    await ledger.query(
      `UPDATE order_ledger SET delivered_at = now() - interval '5 minutes' WHERE order_id = $1`,
      [later],
    )
    await mes.query(`UPDATE public.orders SET received_at = now() - interval '5 minutes'`)
    t.deepEqual(
      (await conserved(day, true)).differences.map(({ orderId }) => orderId),
      [id],
    )
  },
)

test.serial('a cancelled order, an uncaptured and a partner order need no one else', async (t) => {
  await plant({ state: 'cancelled', status: 'CLOSED', mesStatus: undefined })
  const before = await plant({ ...closed, inLedger: false })
  await shop.query('DELETE FROM strangler.outbox WHERE order_id = $1', [before])
  const partner = await plant({ ...closed, path: 'legacy', mail: [] })
  await shop.query('DELETE FROM strangler.outbox WHERE order_id = $1', [partner])
  await shop.query(`UPDATE public.orders SET source = 'partner' WHERE id = $1`, [partner])
  await ledger.query(`UPDATE order_ledger SET origin = 'partner:p' WHERE order_id = $1`, [partner])
  await mes.query(`UPDATE public.orders SET source = 'partner' WHERE order_id = $1`, [partner])
  t.deepEqual((await conserved()).differences, [])
})
