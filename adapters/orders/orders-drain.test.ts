import { randomUUID } from 'node:crypto'

import test from 'ava'

import { acceptOrders } from '../../delivery/accept-orders.ts'
import { advancePhase, rollbackPhase } from '../../flags/phase-journal.ts'
import { resumePhase } from '../../flags/pin.ts'
import { continueRollback } from '../../flags/rollback.ts'
import { inTransaction } from '../../runtime/postgres.ts'
import { startEstateDatabases, submitOrder } from '../../test/estate-databases.ts'
import { loadSubmittedOrders } from './load-submitted-orders.ts'
import { ordersDrain } from './orders-drain.ts'

const estate = await startEstateDatabases()
const { ledger, shop, mes } = estate
const drain = ordersDrain({ ledger, shop, mes })
const act = { ledger, seam: shop, phase: 'orders-direct', who: 'ann', why: 'a test' } as const
const at = { phase: act.phase, who: act.who, why: act.why }

test.beforeEach(async () => {
  await ledger.query('TRUNCATE order_ledger, handover, phase, phase_journal, phase_event')
  await shop.query('TRUNCATE strangler.route, strangler.outbox, public.orders')
})
test.after.always(() => estate.stop())

async function directOrders(count: number): Promise<string[]> {
  const ids = Array.from({ length: count }, () => randomUUID())
  for (const id of ids) await submitOrder(shop, id)
  return ids
}

/** Path in the outbox, path in the ledger, and whether CRM may take it. */
async function standing(ids: readonly string[]): Promise<string[]> {
  const inShop = await shop.query<{ id: string; path: string; free: boolean }>(
    `SELECT o.id::text AS id, b.path, o.crm_sent_at IS NULL AS free FROM public.orders o
     JOIN strangler.outbox b ON b.order_id = o.id WHERE o.id = ANY($1::uuid[])`,
    [ids],
  )
  const inLedger = await ledger.query<{ id: string; path: string }>(
    'SELECT order_id AS id, path FROM order_ledger WHERE order_id = ANY($1::text[])',
    [ids],
  )
  const known = new Map(inLedger.rows.map(({ id, path }) => [id, path]))
  const lines = inShop.rows.map(
    ({ id, path, free }) => `${path} ${known.get(id) ?? 'unknown'} ${free ? 'free' : 'claimed'}`,
  )
  return [...new Set(lines)].toSorted()
}

// It doubled every order: the rollback had given them to CRM, and the relay brought them to the couriers all the same.
test.serial(
  'a relay that was frozen with orders in hand comes too late for a hand-over',
  async (t) => {
    await advancePhase({ ...act, share: 10_000 })
    const ids = await directOrders(4)
    const { readable: inHand } = await loadSubmittedOrders(shop, ids)
    const { epoch } = await rollbackPhase(act)
    t.is(await drain.handOver({ ...at, epoch }), 4)
    t.deepEqual(await acceptOrders(ledger, inHand), [])
    t.deepEqual(await standing(ids), ['legacy legacy free'])
    t.deepEqual(await drain.underWay(epoch), { waiting: 0, inHand: 0, inDoubt: [] })
  },
)

// A crashed rollback had recorded them, and the couriers delivered them meanwhile; the next run gave them to CRM as well.
test.serial(
  'what a relay has brought before is the couriers to lose, with one record each',
  async (t) => {
    await advancePhase({ ...act, share: 10_000 })
    const ids = await directOrders(4)
    const { readable } = await loadSubmittedOrders(shop, ids)
    await acceptOrders(ledger, readable)
    await ledger.query(
      `UPDATE order_ledger SET state = 'delivered', delivered_at = now() WHERE order_id = ANY($1::text[])`,
      [ids.slice(0, 2)],
    )
    const { epoch } = await rollbackPhase(act)
    t.is(await drain.handOver({ ...at, epoch }), 2)
    t.deepEqual(await standing(ids.slice(0, 2)), ['direct direct claimed'])
    t.deepEqual(await standing(ids.slice(2)), ['legacy legacy free'])
    const { rows } = await ledger.query(
      'SELECT order_id FROM handover WHERE finished_at IS NOT NULL ORDER BY order_id',
    )
    t.deepEqual(
      rows.map((row: { order_id: string }) => row.order_id),
      ids.slice(2).toSorted(),
    )
  },
)

test.serial('a second run never lifts a claim that CRM has made since', async (t) => {
  await advancePhase({ ...act, share: 10_000 })
  const ids = await directOrders(2)
  const { epoch } = await rollbackPhase(act)
  await drain.handOver({ ...at, epoch })
  await shop.query('UPDATE public.orders SET crm_sent_at = now()')
  // As a crash leaves it between the Shop's commit and ours.
  await ledger.query('UPDATE handover SET finished_at = NULL')
  t.is(await drain.handOver({ ...at, epoch }), 0)
  t.deepEqual(await standing(ids), ['legacy legacy claimed'])
})

// An order that was sent again after the MES had lost it was handed over to a CRM that was done with it, and lost for good.
test.serial('an order that CRM would not take up again stays with the couriers', async (t) => {
  await advancePhase({ ...act, share: 10_000 })
  const ids = await directOrders(3)
  const { readable } = await loadSubmittedOrders(shop, ids)
  await acceptOrders(ledger, readable)
  await shop.query('UPDATE strangler.outbox SET relayed_at = now()')
  const [again] = ids
  await shop.query(`UPDATE public.orders SET status = 'PRICE_CALCULATED' WHERE id = $1`, [again])
  const { epoch } = await rollbackPhase(act)
  t.is(await drain.handOver({ ...at, epoch }), 2)
  t.deepEqual(await standing([again!]), ['direct direct claimed'])
  t.like(await drain.underWay(epoch), { waiting: 1 })
})

test.serial('orders of a later epoch are none of this rollback', async (t) => {
  await advancePhase({ ...act, share: 10_000 })
  const before = await directOrders(2)
  const { epoch } = await rollbackPhase(act)
  await resumePhase(ledger, act.phase, act)
  await advancePhase({ ...act, share: 10_000 })
  const after = await directOrders(3)
  const { readable } = await loadSubmittedOrders(shop, after.slice(0, 1))
  await acceptOrders(ledger, readable)
  t.is(await drain.handOver({ ...at, epoch }), 2)
  t.deepEqual(await standing(before), ['legacy legacy free'])
  t.deepEqual(await standing(after), ['direct direct claimed', 'direct unknown claimed'])
  t.deepEqual(await drain.underWay(epoch), { waiting: 0, inHand: 0, inDoubt: [] })
})

test.serial('no receipt is verified while a transaction of the old epoch is open', async (t) => {
  const within = { ...act, drain, drainWithinMs: 0, settleWithinMs: 100 }
  await advancePhase({ ...act, share: 10_000 })
  const late = randomUUID()
  await inTransaction(shop, async (client) => {
    await client.query(
      `INSERT INTO public.orders (id, source, status, material, quantity, model_key, model_sha256, model_bytes)
       VALUES ($1, 'shop', 'SUBMITTED', 'PLA', 1, 'a', repeat('a', 64), 1)`,
      [late],
    )
    await rollbackPhase({ ...act, completeWithinMs: 0 })
    t.like(await continueRollback(within), { outcome: 'open' })
  })
  t.like(await continueRollback(within), { outcome: 'verified', handedOver: 1 })
  t.deepEqual(await standing([late]), ['legacy legacy free'])
  // Stored, and told again.
  t.like(await continueRollback(within), { outcome: 'verified', handedOver: 1 })
})
