import { randomInt, randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'

import test, { type ExecutionContext } from 'ava'

import { bucketOf, wholeShare } from '../contracts/path-share.ts'
import type { Estate } from '../estate/estate.ts'
import { withClient } from '../estate/postgres-server.ts'
import { advancePhase, lowerPhase } from '../flags/phase-journal.ts'
import { migrationSeed } from '../flags/phases.ts'
import { createLog } from '../runtime/log.ts'
import { createPool, type Pool } from '../runtime/postgres.ts'
import { expectEachOnce, ledgerStatesIn, startDirectWay } from './direct-way-fixture.ts'
import { storeModel, submitOrders } from './shop-orders-by-sql.ts'
import { waitUntilIn } from './wait-until.ts'

/**
 * The share of new orders is changed as fast as it goes while orders come in also in transactions whose snapshot is older than the flip.
 * What was decided for an order stays decided: the claim of its submit, the outbox and the ledger name one path, and it arrives
 * once, over CRM or past it.
 */
const flips = 220
// Keeps the work for the MES the same on a slow machine and on a fast one.
const ordersPerFlip = 7
let estate: Estate
let ledger: Pool
let shop: Pool

test.before(async () => {
  estate = await startDirectWay({
    without: ['shop', 'proxy'],
    settings: { crm: { CRM_POLL_MS: '5' } },
  })
  const inserted = await estate.strangler('bridge', 'insert', '--who', 'test')
  if (inserted.code !== 0) throw new Error(inserted.stderr)
  const log = createLog('test')
  ledger = createPool(estate.operatorEnvironment['LEDGER_URL']!, { name: 'test', log })
  shop = createPool(estate.operatorEnvironment['SHOP_URL']!, { name: 'test', log })
})
test.after.always(async () => {
  await ledger?.end()
  await shop?.end()
  await estate?.stop()
})

const act = { phase: 'orders-direct', who: 'test', why: 'storm' } as const

/** Every binding of the broker, and how often a bridge has changed one. */
async function topology(): Promise<unknown[]> {
  const bindings = await rowsOf(
    estate.databases.broker,
    'SELECT * FROM amq.binding ORDER BY 1, 2, 3',
  )
  const bridges = await rowsOf(
    estate.databases.ledger,
    'SELECT queue, state, topology_changes FROM bridge ORDER BY 1',
  )
  return [...bindings, ...bridges]
}

interface Submit {
  readonly id: string
  /** What the submit itself has set, read in its own transaction: CRM sets it later, too. */
  readonly claimed: boolean
  /** The last epoch whose flip was complete when this order was still to be committed. */
  readonly notBefore: number
}

interface Storm {
  flips: number
  orders: number
  /** The epoch of the last flip that was complete. */
  completed: number
  over: boolean
}

const levels = ['READ COMMITTED', 'REPEATABLE READ'] as const

/** One customer after the other, each in a transaction of its own that stays open for a while. */
async function submitsOf(level: (typeof levels)[number], storm: Storm): Promise<Submit[]> {
  const model = await storeModel(estate)
  const submits: Submit[] = []
  const url = estate.postgres.urlFor(new URL(estate.databases.shop).pathname.slice(1), 'shop')
  await withClient(url, async (client) => {
    while (!storm.over) {
      if (storm.orders >= ordersPerFlip * (storm.flips + 1)) {
        await delay(1)
        continue
      }
      storm.orders += 1
      const id = randomUUID()
      const begun = storm.completed
      await client.query(`BEGIN ISOLATION LEVEL ${level}`)
      await client.query(
        `INSERT INTO orders (id, status, material, quantity, model_key, model_sha256, model_bytes) VALUES ($1, 'FILE_UPLOADED', 'PLA', 1, $2, $3, $4)`,
        [id, model.key, model.sha256, model.bytes],
      )
      await delay(randomInt(12))
      const { rows } = await client.query<{ claimed: boolean }>(
        `UPDATE orders SET status = 'SUBMITTED', updated_at = now() WHERE id = $1 AND status = 'FILE_UPLOADED'
         RETURNING crm_sent_at IS NOT NULL AS claimed`,
        [id],
      )
      await delay(randomInt(4))
      // Complete means that no order of an older epoch appears any more, not even from a transaction that was open then. An old
      // snapshot may bring one as late as it is itself.
      const notBefore = level === 'READ COMMITTED' ? storm.completed : begun
      await client.query('COMMIT')
      submits.push({ id, claimed: rows[0]!.claimed, notBefore })
    }
  })
  return submits
}

test.serial(`${flips} flips while orders come in`, async (t) => {
  t.timeout(200_000)
  const before = await topology()
  const storm: Storm = { flips: 0, orders: 0, completed: 0, over: false }
  const submitting = Promise.all(
    [...levels, ...levels, ...levels].map((level) => submitsOf(level, storm)),
  )
  const started = performance.now()
  try {
    for (let n = 0; n < flips; n += 1) {
      const moved =
        n % 2 === 0
          ? await advancePhase({ ...act, ledger, seam: shop, share: randomInt(1, 10_001) })
          : await lowerPhase({ ...act, ledger, seam: shop, share: 0 })
      t.true(moved.changed && moved.complete)
      storm.completed = moved.epoch
      storm.flips += 1
    }
  } finally {
    storm.over = true
  }
  const submits = (await submitting).flat()
  const seconds = (performance.now() - started) / 1000
  t.log(
    `${submits.length} orders and ${flips} flips in ${seconds.toFixed(1)} s: ${(submits.length / seconds).toFixed(0)} orders/s, ${((flips / seconds) * 60).toFixed(0)} flips/min`,
  )
  await expectEachOnce(
    t,
    estate,
    submits.map((submit) => submit.id),
    150_000,
  )
  await expectDecidedOnce(t, submits)
  t.deepEqual(await topology(), before, 'a flip changes no topology')
})

async function expectDecidedOnce(t: ExecutionContext, submits: readonly Submit[]): Promise<void> {
  const shares = new Map(
    (await rowsOf(estate.databases.ledger, `SELECT epoch, share FROM phase_journal`)).map((row) => [
      row['epoch'],
      row['share'],
    ]),
  )
  const decided = new Map(
    (
      await rowsOf(
        estate.databases.shop,
        'SELECT order_id::text AS id, path, epoch, reason FROM strangler.outbox',
      )
    ).map((row) => [row['id'], row]),
  )
  const inLedger = new Map(
    (
      await rowsOf(
        estate.databases.ledger,
        'SELECT order_id AS id, path, path_epoch FROM order_ledger',
      )
    ).map((row) => [row['id'], row]),
  )
  const wrong = submits.filter(({ id, claimed, notBefore }) => {
    const outbox = decided.get(id)
    const row = inLedger.get(id)
    const epoch = Number(outbox?.['epoch'])
    const share = epoch === 0 ? 0 : Number(shares.get(epoch))
    const path = bucketOf(id, migrationSeed) < share ? 'direct' : 'legacy'
    return !(
      outbox?.['path'] === path &&
      row?.['path'] === path &&
      row['path_epoch'] === epoch &&
      claimed === (path === 'direct') &&
      epoch >= notBefore
    )
  })
  t.deepEqual(wrong, [])
  const direct = submits.filter((submit) => submit.claimed).length
  t.true(direct > 0 && direct < submits.length, 'both paths were taken')
  t.deepEqual(
    await rowsOf(estate.databases.ledger, 'SELECT order_id FROM handover'),
    [],
    'no path was changed',
  )
}

test.serial('rollback with 2 000 orders in flight, and forward again', async (t) => {
  t.timeout(200_000)
  const before = await topology()
  await estate.process('courier').terminate()
  await advancePhase({ ...act, ledger, seam: shop, share: wholeShare })
  const inFlight = await submitOrders(estate, 2000)
  await waitUntilIn(
    [estate.databases.ledger],
    'all of them accepted, none sent',
    async (inLedger) => ((await ledgerStatesIn(inLedger))['accepted'] ?? 0) === inFlight.length,
  )
  await lowerPhase({ ...act, ledger, seam: shop, share: 0 })
  const back = await submitOrders(estate, 200)
  await advancePhase({ ...act, ledger, seam: shop, share: wholeShare })
  const again = await submitOrders(estate, 200)
  await lowerPhase({ ...act, ledger, seam: shop, share: 0 })
  await estate.launch('courier')
  await expectEachOnce(t, estate, [...inFlight, ...back, ...again], 150_000)
  const paths = await rowsOf(
    estate.databases.ledger,
    `SELECT order_id AS id, path FROM order_ledger`,
  )
  const pathOf = new Map(paths.map((row) => [row['id'], row['path']]))
  for (const [ids, path] of [
    [inFlight, 'direct'],
    [back, 'legacy'],
    [again, 'direct'],
  ] as const)
    t.deepEqual(
      ids.filter((id) => pathOf.get(id) !== path),
      [],
    )
  t.deepEqual(await topology(), before)
})

function rowsOf(url: string, sql: string): Promise<Record<string, unknown>[]> {
  return withClient(url, async (client) => (await client.query<Record<string, unknown>>(sql)).rows)
}
