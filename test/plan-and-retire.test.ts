import test from 'ava'

import { type Estate, startEstate } from '../estate/estate.ts'
import { withClient } from '../estate/postgres-server.ts'
import { submitOrders } from './shop-orders-by-sql.ts'
import { waitUntil } from './wait-until.ts'
import { withoutTriggers } from './without-triggers.ts'

/** What `plan` foretells is what `advance` does, and `retire` finds whoever still uses the legacy way. */
let estate: Estate

/** What is tested are the evidence and the counts, not what `advance` makes of them. */
const forced = ['--force', '--why', 'a test'] as const

test.before(async () => {
  estate = await startEstate({
    without: ['shop', 'proxy'],
    settings: { mes: { MES_PRICE_US_PER_TRIANGLE: '0' } },
  })
  await say(0, 'bridge', 'insert')
})
test.after.always(() => estate?.stop())

async function say(expected: number, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await estate.stranglerWith({ GATE_MINIMUM: '0' }, ...args)
  if (code !== expected) throw new Error(`strangler ${args.join(' ')}: ${code}\n${stdout}${stderr}`)
  return stdout
}

async function until(what: string, count: number, read: () => Promise<readonly unknown[]>) {
  await waitUntil(what, async () => {
    const { length } = await read()
    return length === count ? true : Promise.reject(new Error(`${length} of ${count}`))
  })
}

const inMes = () => withoutTriggers(estate, 'mes', 'SELECT 1 FROM orders')
const priced = () =>
  withoutTriggers(estate, 'shop', `SELECT 1 FROM orders WHERE status = 'PRICE_CALCULATED'`)

/** The same orders once more, as if they were submitted only now. */
async function resubmit(ids: readonly string[]): Promise<void> {
  for (const table of ['order_ledger', 'bridge_inbox', 'status_inbox', 'order_event'])
    await withoutTriggers(estate, 'ledger', `DELETE FROM ${table}`)
  await withoutTriggers(estate, 'mes', 'DELETE FROM orders')
  await withoutTriggers(estate, 'shop', 'DELETE FROM strangler.outbox')
  await withoutTriggers(estate, 'shop', 'DELETE FROM strangler.order_fence')
  await withoutTriggers(
    estate,
    'shop',
    `UPDATE orders SET status = 'FILE_UPLOADED', price = NULL, currency = NULL, crm_sent_at = NULL`,
  )
  await withClient(estate.databases.shop, (client) =>
    client.query(`UPDATE orders SET status = 'SUBMITTED' WHERE id = ANY ($1::uuid[])`, [ids]),
  )
}

const directIn = async (database: 'shop' | 'ledger'): Promise<string[]> => {
  const rows = await withoutTriggers<{ id: string }>(
    estate,
    database,
    database === 'shop'
      ? `SELECT order_id::text AS id FROM strangler.outbox WHERE path = 'direct'`
      : `SELECT order_id AS id FROM order_ledger WHERE status_path = 'direct'`,
  )
  return rows.map(({ id }) => id).toSorted()
}

interface Planned {
  readonly orders: number
  readonly legacy: number
  readonly direct: number
  readonly wouldGoDirect: string[]
  readonly wouldMove: string[]
  readonly wouldFallBack: string[]
  readonly counts: { readonly wouldGoDirect: number }
  readonly staying: { readonly onLegacy: number }
}

async function planned(phase: string, share: string): Promise<Planned> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a wrong form fails the assertions
  return JSON.parse(await say(0, 'plan', phase, '--share', share, '--json')) as Planned
}

const count = 60
let ids: string[] = []

test.serial('exactly the orders that plan names go direct when they come again', async (t) => {
  ids = await submitOrders(estate, count)
  await until('all are in the MES', count, inMes)
  await until('all are priced', count, priced)
  for (const [phase, database] of [
    ['orders-direct', 'shop'],
    ['statuses-direct', 'ledger'],
  ] as const) {
    const before = await directIn(database)
    t.deepEqual(before, [])
    const plan = await planned(phase, '30%')
    t.is(plan.orders, count)
    t.is(plan.legacy, count)
    t.true(plan.wouldMove.length > 5 && plan.wouldMove.length < 35, 'about 18')
    t.is(plan.counts.wouldGoDirect, plan.wouldGoDirect.length)
    t.is(plan.staying.onLegacy, count)
    t.deepEqual(await directIn(database), before, 'nothing is changed')
    t.is(
      (await withoutTriggers(estate, 'ledger', 'SELECT 1 FROM phase WHERE phase = $1', phase))
        .length,
      0,
    )

    await say(0, 'advance', phase, '--share', '30%', ...forced)
    await resubmit(ids)
    await until('all are in the MES again', count, inMes)
    await until('all are priced again', count, priced)
    t.deepEqual(await directIn(database), [...plan.wouldGoDirect].toSorted())
    // What it decided is what a plan of the same share now finds, and nothing moves.
    const again = await planned(phase, '30%')
    t.is(again.direct, plan.wouldGoDirect.length)
    t.deepEqual([again.wouldMove, again.wouldFallBack], [[], []])
    const back = await planned(phase, '0%')
    t.deepEqual(back.wouldFallBack.toSorted(), again.wouldGoDirect.toSorted())
  }
  const people = await say(0, 'plan', 'orders-direct')
  t.regex(people, /30 % in force, planned 50 %; nothing is changed/)
  t.regex(people, /open orders are on the legacy path and finish there/)
})

async function refused(phase: string, ...more: string[]): Promise<string[]> {
  const said = JSON.parse(await say(2, 'retire', phase, '--json', ...more))
  return said.reasons
}

const closeAll = async (): Promise<void> => {
  for (const database of ['shop', 'mes'] as const)
    await withoutTriggers(estate, database, `UPDATE orders SET status = 'CLOSED'`)
}

/** Everything that uses the legacy way was so long ago. */
async function longAgo(): Promise<void> {
  const ago = `- interval '8 days'`
  await withoutTriggers(estate, 'shop', `UPDATE strangler.outbox SET at = at ${ago}`)
  await withoutTriggers(estate, 'shop', `UPDATE orders SET crm_sent_at = crm_sent_at ${ago}`)
  await withoutTriggers(
    estate,
    'ledger',
    `UPDATE bridge_inbox SET received_at = received_at ${ago}`,
  )
  await withoutTriggers(estate, 'ledger', `UPDATE phase_journal SET at = at ${ago}`)
}

test.serial('retire refuses with every reason at once, and one straggler blocks it', async (t) => {
  const first = await refused('orders-direct')
  t.true(
    first.some((reason) => reason.includes('30 % are in force, not 100 %')),
    first.join('\n'),
  )
  t.true(first.some((reason) => reason.includes('the last decision for the legacy path was')))
  t.true(first.some((reason) => reason.includes('the last submitted order that CRM sent was')))
  t.true(first.some((reason) => /\d+ legacy orders are not closed: .*and \d+ more/.test(reason)))
  t.true(first.some((reason) => reason.includes('the last order that CRM took up was')))

  await say(0, 'advance', 'orders-direct', '--share', '100%', ...forced)
  await say(0, 'advance', 'statuses-direct', '--share', '100%', ...forced)
  await closeAll()
  const fresh = await refused('orders-direct')
  t.true(
    fresh.some((reason) => /all is direct only for/.test(reason)),
    fresh.join('\n'),
  )
  await longAgo()
  t.regex(
    await say(0, 'retire', 'orders-direct', '--who', 'ann'),
    /retired: \d+ legacy orders are closed/,
  )

  const [straggler] = await withoutTriggers<{ id: string }>(
    estate,
    'shop',
    `SELECT order_id::text AS id FROM strangler.outbox WHERE path = 'legacy' LIMIT 1`,
  )
  await withoutTriggers(
    estate,
    'shop',
    `UPDATE orders SET status = 'SHIPPED' WHERE id = $1`,
    straggler!.id,
  )
  t.deepEqual(await refused('orders-direct'), [
    `1 legacy orders are not closed: ${straggler!.id} (the Shop says SHIPPED)`,
  ])
  await withoutTriggers(
    estate,
    'shop',
    `UPDATE orders SET status = 'CLOSED' WHERE id = $1`,
    straggler!.id,
  )
  await withoutTriggers(
    estate,
    'mes',
    `UPDATE orders SET status = 'SHIPPED' WHERE order_id = $1`,
    straggler!.id,
  )
  t.deepEqual(await refused('orders-direct'), [
    `1 legacy orders are not closed: ${straggler!.id} (the MES still works on it)`,
  ])
  await withoutTriggers(
    estate,
    'mes',
    `UPDATE orders SET status = 'CLOSED' WHERE order_id = $1`,
    straggler!.id,
  )

  // Somebody gave an order to CRM by hand.
  await withoutTriggers(
    estate,
    'shop',
    'UPDATE orders SET crm_sent_at = now() WHERE id = $1',
    straggler!.id,
  )
  const taken = await refused('orders-direct')
  t.is(taken.length, 1)
  t.regex(taken[0]!, new RegExp(`the last order that CRM took up was .* ago: ${straggler!.id}`))
  await withoutTriggers(
    estate,
    'shop',
    `UPDATE orders SET crm_sent_at = now() - interval '8 days' WHERE id = $1`,
    straggler!.id,
  )
})

test.serial('the proof is recorded, and its hashes are those of its rows', async (t) => {
  const report = JSON.parse(await say(0, 'retire', 'orders-direct', '--json', '--who', 'ann'))
  const again = JSON.parse(await say(0, 'retire', 'orders-direct', '--json', '--who', 'ann'))
  t.is(again.sha256, report.sha256, 'the same rows, the same hash')
  t.is(report.evidence.length, 5)
  for (const { sha256 } of report.evidence) t.regex(sha256, /^[0-9a-f]{64}$/)
  const events = await withoutTriggers<{ who: string; detail: { sha256: string } }>(
    estate,
    'ledger',
    `SELECT who, detail FROM phase_event WHERE kind = 'retire' AND phase = 'orders-direct' ORDER BY id DESC LIMIT 1`,
  )
  t.is(events[0]!.who, 'ann')
  t.is(events[0]!.detail.sha256, report.sha256)
  await withoutTriggers(
    estate,
    'shop',
    `UPDATE strangler.outbox SET at = at - interval '1 s' WHERE path = 'legacy'`,
  )
  const changed = JSON.parse(await say(0, 'retire', 'orders-direct', '--json'))
  t.not(changed.sha256, report.sha256)

  t.regex(await say(0, 'retire', 'statuses-direct'), /retired: \d+ legacy orders are closed/)
  const [late] = await withoutTriggers<{ id: string }>(
    estate,
    'ledger',
    `SELECT order_id AS id FROM order_ledger WHERE status_path = 'legacy' LIMIT 1`,
  )
  await withoutTriggers(
    estate,
    'shop',
    `INSERT INTO strangler.late_writes (order_id, col, old, new, kept, role) VALUES ($1, 'status', 'SHIPPED', 'PACKAGING', false, 'crm')`,
    late!.id,
  )
  const reasons = await refused('statuses-direct')
  t.is(reasons.length, 1)
  t.regex(
    reasons[0]!,
    new RegExp(`the last status or price that CRM wrote was .* ago: ${late!.id}`),
  )
})
