import { randomInt } from 'node:crypto'

import test from 'ava'

import type { Estate } from '../estate/estate.ts'
import { withClient } from '../estate/postgres-server.ts'
import { advancePhase, lowerPhase, phaseStatus } from '../flags/phase-journal.ts'
import { createLog } from '../runtime/log.ts'
import { createPool } from '../runtime/postgres.ts'
import { expectEachOnce, moveShare, reaches, startDirectWay } from './direct-way-fixture.ts'
import { sized } from './full-size.ts'
import { submitOrders } from './shop-orders-by-sql.ts'
import { waitUntil } from './wait-until.ts'

/**
 * A rollback dies at each of its boundaries, over two databases, while orders wait that no courier will take any more. Run again,
 * it ends: every order is CRM's, with its record, and in the MES once.
 */
let estate: Estate

test.before(async () => {
  estate = await startDirectWay({
    without: ['shop', 'proxy', 'applier', 'shadow'],
    settings: { crm: { CRM_POLL_MS: '5' } },
  })
  const inserted = await estate.strangler('bridge', 'insert')
  if (inserted.code !== 0) throw new Error(inserted.stderr)
})
test.after.always(() => estate?.stop())

const rollback = ['rollback', 'orders-direct', '--why', 'a test', '--json'] as const

test.beforeEach(() => resume())

async function resume(): Promise<void> {
  await estate.strangler('resume', 'orders-direct', '--why', 'a test')
}

async function ledgerRows<Row extends object>(sql: string): Promise<Row[]> {
  return withClient(estate.databases.ledger, async (client) => (await client.query<Row>(sql)).rows)
}

const boundaries = {
  'phase.intended': 'the journal says it, the route does not: the next run carries it out',
  'phase.routed': 'in force, and the journal follows',
  'phase.completed': 'complete, and nothing drained yet',
  'handover.recorded':
    'no courier can claim it, and CRM can not see it yet: the record is carried on',
  'handover.given-back': 'CRM may have taken it already: its claim is not lifted again',
  'rollback.drained': 'nothing is under way, and nothing says so yet',
  'rollback.handed-over': 'everything is where it belongs, unproved',
  'rollback.verified': 'proved, and the receipt is not written',
}

for (const [boundary, meaning] of Object.entries(boundaries)) {
  test.serial(`rollback killed at ${boundary}: ${meaning}`, async (t) => {
    await moveShare(estate, '100%')
    await estate.process('courier').terminate()
    const accepted = await submitOrders(estate, 8)
    await waitUntil('the ledger has them', async () => {
      const rows = await ledgerRows(
        `SELECT FROM order_ledger WHERE state = 'accepted' AND path = 'direct'`,
      )
      return rows.length === accepted.length
    })
    await estate.process('relay').terminate()
    const inOutbox = await submitOrders(estate, 4)

    await t.throwsAsync(
      estate.stranglerWith({ FAILPOINTS: `${boundary}=kill` }, ...rollback, '--drain', '0s'),
      { message: new RegExp(`SIGKILL:\nfailpoint ${boundary} `) },
    )

    await estate.launch('relay')
    const said = await estate.strangler(...rollback, '--drain', '0s')
    t.is(said.code, 0, `${said.stdout}${said.stderr}`)
    const { receipt } = JSON.parse(said.stdout)
    t.like(receipt, { outcome: 'verified', handedOver: 12, differences: [] })
    const again = await estate.strangler(...rollback)
    t.like(JSON.parse(again.stdout), { changed: false, receipt: { epoch: receipt.epoch } })

    await estate.launch('courier')
    const ids = [...accepted, ...inOutbox]
    await expectEachOnce(t, estate, ids)
    const handovers = await ledgerRows(
      `SELECT FROM handover WHERE epoch = ${receipt.epoch} AND finished_at IS NOT NULL`,
    )
    t.is(handovers.length, ids.length)
  })
}

test.serial('under load, with everything up: what is under way finishes where it is', async (t) => {
  await moveShare(estate, '100%')
  const ids: string[] = []
  const over = new AbortController()
  const submitting = (async () => {
    while (!over.signal.aborted) ids.push(...(await submitOrders(estate, 50)))
  })()
  const said = await estate.strangler(...rollback)
  t.is(said.code, 0, `${said.stdout}${said.stderr}`)
  const { receipt } = JSON.parse(said.stdout)
  t.like(receipt, { outcome: 'verified', handedOver: 0, differences: [] })
  over.abort()
  await submitting
  const direct = await ledgerRows(`SELECT FROM order_ledger WHERE path = 'direct'`)
  t.true(direct.length > 0)
  await expectEachOnce(t, estate, ids)
})

test.serial('what may have been sent is settled by evidence before the receipt', async (t) => {
  await moveShare(estate, '100%')
  await estate.process('courier').terminate()
  // What the watch settles before the rollback began is none of the receipt's.
  await estate.process('watch').terminate()
  await estate.launch('courier', { FAILPOINTS: 'courier.sent=kill' })
  const reached = reaches(estate, 'courier', 'courier.sent')
  const ids = await submitOrders(estate, 20)
  await reached
  await estate.process('courier').terminate()
  const rolling = estate.strangler(...rollback, '--drain', '0s')
  await waitUntil('the rollback is in force', () =>
    withClient(estate.databases.shop, async (client) => {
      const { rows } = await client.query(
        `SELECT FROM strangler.route WHERE phase = 'orders-direct' AND share = 0`,
      )
      return rows.length === 1
    }),
  )
  await estate.launch('watch')
  const said = await rolling
  t.is(said.code, 0, `${said.stdout}${said.stderr}`)
  const { receipt } = JSON.parse(said.stdout)
  t.is(receipt.outcome, 'verified')
  t.true(receipt.settledByEvidence > 0)
  await estate.launch('courier')
  await expectEachOnce(t, estate, ids)
})

test.serial('a kill, and then the rollback that drains it', async (t) => {
  await moveShare(estate, '100%')
  await estate.process('courier').terminate()
  const ids = await submitOrders(estate, 5)
  const killed = await estate.strangler('kill', 'orders-direct', '--why', 'a test')
  t.is(killed.code, 0, killed.stderr)
  const said = await estate.strangler(...rollback, '--drain', '0s')
  t.is(said.code, 0, `${said.stdout}${said.stderr}`)
  t.like(JSON.parse(said.stdout), { changed: true, shareBefore: 0, receipt: { handedOver: 5 } })
  await estate.launch('courier')
  await expectEachOnce(t, estate, ids)
})

const inFlight = sized(10_000, 200)
const patienceMs = sized(1_200_000, 300_000)

test.serial(`rollback with ${inFlight} orders in flight, and forward again at once`, async (t) => {
  t.timeout(patienceMs)
  await moveShare(estate, '100%')
  await estate.process('courier').terminate()
  const ids = await submitOrders(estate, inFlight)
  const said = await estate.strangler(...rollback, '--drain', '0s', '--settle', '15m')
  t.is(said.code, 0, `${said.stdout}${said.stderr}`)
  t.like(JSON.parse(said.stdout), { receipt: { outcome: 'verified', handedOver: inFlight } })
  await resume()
  await moveShare(estate, '100%')
  await estate.launch('courier')
  const more = await submitOrders(estate, inFlight / 10)
  await expectEachOnce(t, estate, [...ids, ...more], patienceMs)
  const ways = await waysOf([...ids, ...more])
  t.deepEqual(ways.filter(isAgainstTheRule), [])
  const handedOver = ways.filter(({ path, recorded }) => path === 'legacy' && recorded)
  t.deepEqual(handedOver.map(({ id }) => id).toSorted(), ids.toSorted())
})

/** To a share that nobody knows before, up or down; without a gate. */
async function flipAnywhere(): Promise<undefined> {
  const log = createLog('test')
  const ledger = createPool(estate.databases.ledger, { name: 'test', max: 1, log })
  const shop = createPool(estate.databases.shop, { name: 'test', max: 1, log })
  try {
    const act = { ledger, seam: shop, phase: 'orders-direct', who: 'test', why: 'test' } as const
    const { share: before } = await phaseStatus(act)
    const other = randomInt(1000, 10_000)
    const share = other === before ? before + 1 : other
    await (share > before ? advancePhase : lowerPhase)({ ...act, share })
  } finally {
    await Promise.all([ledger.end(), shop.end()])
  }
}

async function rollBackAtOnce(): Promise<number> {
  const said = await estate.strangler(...rollback, '--drain', '0s')
  if (said.code !== 0) throw new Error(`${said.stdout}${said.stderr}`)
  await resume()
  return JSON.parse(said.stdout).receipt.handedOver
}

/** The same with orders in the ledger that no courier takes: they are handed over, however fast the machine is. */
async function rollBackWithoutCourier(): Promise<number> {
  await estate.process('courier').terminate()
  await waitUntil('orders wait for a courier', async () => {
    const waiting = await ledgerRows(
      `SELECT FROM order_ledger WHERE path = 'direct' AND state = 'accepted' LIMIT 1`,
    )
    return waiting.length > 0
  })
  const handedOver = await rollBackAtOnce()
  await estate.launch('courier')
  return handedOver
}

interface Way {
  readonly id: string
  readonly path: 'direct' | 'legacy'
  /** A courier has had it. */
  readonly viaCourier: boolean
  /** CRM has sent it to the MES. */
  readonly viaCrm: boolean
  readonly recorded: boolean
}

function waysOf(ids: readonly string[]): Promise<Way[]> {
  return withClient(estate.databases.ledger, async (client) => {
    const { rows } = await client.query<Way>(
      `SELECT l.order_id AS id, l.path, l.sending_at IS NOT NULL AS "viaCourier",
         EXISTS (SELECT FROM bridge_inbox b WHERE b.order_id = l.order_id AND b.queue = 'mes.orders'
           AND b.routing_key = 'order.submitted') AS "viaCrm",
         EXISTS (SELECT FROM handover h WHERE h.order_id = l.order_id AND h.finished_at IS NOT NULL) AS recorded
       FROM order_ledger l WHERE l.order_id = ANY($1::text[])`,
      [ids],
    )
    return rows
  })
}

/** Hops on both paths without a record, or none on the path that is stored. */
function isAgainstTheRule({ path, viaCourier, viaCrm, recorded }: Way): boolean {
  if (viaCourier && viaCrm && !recorded) return true
  return path === 'direct' ? viaCrm || !viaCourier : !viaCrm
}

function countInMes(): Promise<number> {
  return withClient(estate.databases.mes, async (client) => {
    const { rows } = await client.query<{ orders: number }>(
      'SELECT count(*)::int AS orders FROM orders',
    )
    return rows[0]!.orders
  })
}

function untilMesHolds(count: number): Promise<true> {
  return waitUntil(
    `${count} orders in the MES`,
    async () => ((await countInMes()) >= count ? true : undefined),
    patienceMs,
  )
}

const manyOrders = sized(10_000, 2000)
const acts = [
  flipAnywhere,
  flipAnywhere,
  rollBackWithoutCourier,
  flipAnywhere,
  flipAnywhere,
  rollBackAtOnce,
  flipAnywhere,
]

test.serial(
  `${manyOrders} orders, 5 random flips, 2 rollbacks: no hops on both paths without a hand-over record`,
  async (t) => {
    t.timeout(patienceMs)
    const ids: string[] = []
    let handedOver = 0
    const earlier = await countInMes()
    // Each while an eighth of the orders is submitted, and the last eighth after them. The MES keeps up: a receipt waits for it.
    for (const act of [...acts, () => Promise.resolve(undefined)]) {
      const submitting = submitOrders(estate, manyOrders / (acts.length + 1))
      handedOver += (await act()) ?? 0
      ids.push(...(await submitting))
      await untilMesHolds(earlier + ids.length - 200)
    }
    await expectEachOnce(t, estate, ids, patienceMs)
    const ways = await waysOf(ids)
    t.is(ways.length, manyOrders)
    t.deepEqual(ways.filter(isAgainstTheRule), [])
    const recorded = ways.filter((way) => way.recorded).length
    t.is(recorded, handedOver, 'the receipts name every record')
    t.true(recorded > 0)
    const direct = ways.filter((way) => way.path === 'direct').length
    t.true(direct > 0 && direct < manyOrders - recorded, 'both paths were taken')
    t.log(`${direct} direct, ${manyOrders - direct} legacy, ${recorded} of them handed over`)
  },
)
