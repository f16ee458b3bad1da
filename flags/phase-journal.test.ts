import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'

import test from 'ava'

import { asStranglerError, StranglerError } from '../contracts/errors.ts'
import { createLog } from '../runtime/log.ts'
import { createPool, inTransaction } from '../runtime/postgres.ts'
import { startEstateDatabases, submitOrder } from '../test/estate-databases.ts'
import { advancePhase, phaseStatus, rollbackPhase, settlePhase } from './phase-journal.ts'

const estate = await startEstateDatabases()
const { ledger, shop } = estate
const phase = 'orders-direct'
const act = { ledger, seam: shop, phase, who: 'ann@test', why: 'a test' } as const

test.after.always(() => estate.stop())
test.beforeEach(async () => {
  await ledger.query('TRUNCATE phase, phase_journal')
  await shop.query('TRUNCATE strangler.route, strangler.outbox, public.orders')
})

async function journal(): Promise<string[]> {
  const { rows } = await ledger.query<{ line: string }>(
    `SELECT format('%s %s %s', epoch, step, share) AS line FROM phase_journal ORDER BY id`,
  )
  return rows.map((row) => row.line)
}

async function route(): Promise<{ epoch: number; share: number } | undefined> {
  const { rows } = await shop.query<{ epoch: number; share: number }>(
    'SELECT epoch, share FROM strangler.route',
  )
  return rows[0]
}

test.serial('advance writes journal, route and journal again, and says who and why', async (t) => {
  const moved = await advancePhase({ ...act, share: 1000 })
  t.like(moved, { changed: true, complete: true, epoch: 1, share: 1000, shareBefore: 0 })
  t.deepEqual(await journal(), ['1 intended 1000', '1 in force 1000', '1 complete 1000'])
  t.deepEqual(await route(), { epoch: 1, share: 1000 })
  const status = await phaseStatus({ ledger, seam: shop, phase })
  t.like(status, { epoch: 1, share: 1000, step: 'complete', route: { epoch: 1, share: 1000 } })
  t.like(status.last, { verb: 'advance', who: 'ann@test', why: 'a test' })
})

test.serial('what is in force already is not done again', async (t) => {
  await advancePhase({ ...act, share: 1000 })
  t.like(await advancePhase({ ...act, share: 1000 }), { changed: false, epoch: 1 })
  await rollbackPhase(act)
  t.like(await rollbackPhase(act), { changed: false, epoch: 2 })
  t.is((await journal()).length, 6)
})

test.serial('a rollback where nothing ever moved changes nothing', async (t) => {
  t.like(await rollbackPhase(act), { changed: false, epoch: 0, share: 0 })
  t.deepEqual(await journal(), [])
  t.is(await route(), undefined)
})

test.serial('a lower share is refused, and the way back is named', async (t) => {
  await advancePhase({ ...act, share: 5000 })
  const error = await t.throwsAsync(advancePhase({ ...act, share: 1000 }), {
    instanceOf: StranglerError,
  })
  t.is(error.code, 'refused')
  t.regex(error.message, /strangler rollback orders-direct/)
  t.deepEqual(await route(), { epoch: 1, share: 5000 })
})

test.serial(
  'two at once: each is carried out in its own epoch, or told of the other',
  async (t) => {
    for (let round = 1; round <= 10; round += 1) {
      const before = (await phaseStatus({ ledger, seam: shop, phase })).epoch
      const results = await Promise.allSettled([
        advancePhase({ ...act, share: round * 100, who: 'ann' }),
        advancePhase({ ...act, share: round * 100 + 50, who: 'bob' }),
      ])
      const done = results.filter((each) => each.status === 'fulfilled')
      for (const each of results) {
        if (each.status === 'rejected') {
          t.true(
            ['epoch_conflict', 'refused'].includes(
              asStranglerError(each.reason, 'invalid_argument').code,
            ),
          )
        }
      }
      const status = await phaseStatus({ ledger, seam: shop, phase })
      t.true(done.length >= 1)
      t.is(status.epoch, before + done.length)
      t.is(status.step, 'complete')
      t.deepEqual(await route(), { epoch: status.epoch, share: status.share })
    }
  },
)

for (const [point, left] of [
  ['phase.intended', 'intended'],
  ['phase.routed', 'intended'],
  ['phase.completed', 'in force'],
] as const) {
  for (const verb of ['advance', 'rollback'] as const) {
    test.serial(`kill -9 of ${verb} at ${point}: the next verb of anybody ends it`, async (t) => {
      if (verb === 'rollback') await advancePhase({ ...act, share: 1000 })
      const share = verb === 'advance' ? ['--share', '10%', '--force'] : []
      const child = spawn(
        process.execPath,
        [new URL('../scripts/strangler.ts', import.meta.url).pathname, verb, phase, ...share],
        {
          env: {
            LEDGER_URL: estate.urls.ledger,
            SHOP_URL: estate.urls.shop,
            FAILPOINTS: `${point}=kill`,
          },
          stdio: ['ignore', 'ignore', 'pipe'],
        },
      )
      let said = ''
      child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))
      await once(child, 'close')
      t.is(child.signalCode, 'SIGKILL', said)
      t.is((await phaseStatus({ ledger, seam: shop, phase })).step, left)

      const settled = await settlePhase({ ledger, seam: shop, phase })
      t.is(settled.outcome, 'finished')
      const epoch = verb === 'advance' ? 1 : 2
      const wanted = verb === 'advance' ? 1000 : 0
      t.like(settled.state, { epoch, share: wanted, step: 'complete' })
      t.deepEqual(await route(), { epoch, share: wanted })
      t.is(settled.state.last?.verb, verb)
      t.is((await settlePhase({ ledger, seam: shop, phase })).outcome, 'nothing')
      t.is((await journal()).filter((line) => line.startsWith(`${epoch} `)).length, 3)
    })
  }
}

test.serial('a route changed by hand is what is in force: the journal follows it', async (t) => {
  await advancePhase({ ...act, share: 1000 })
  await shop.query('UPDATE strangler.route SET epoch = 9, share = 10000')
  const settled = await settlePhase({ ledger, seam: shop, phase })
  t.is(settled.outcome, 'abandoned')
  t.like(settled.state, { epoch: 9, share: 10_000, step: 'complete' })
  await rollbackPhase(act)
  t.deepEqual(await route(), { epoch: 10, share: 0 })
})

test.serial('a rollback without the ledger is in force; the journal follows', async (t) => {
  const gone = createPool('postgres://127.0.0.1:9/none', { name: 'test', log: createLog('test') })
  await advancePhase({ ...act, share: 1000 })
  const moved = await rollbackPhase({ ...act, ledger: gone })
  t.like(moved, { changed: true, journaled: false, complete: true, epoch: 2, shareBefore: 1000 })
  t.deepEqual(await route(), { epoch: 2, share: 0 })
  t.like(await rollbackPhase({ ...act, ledger: gone }), { changed: false, epoch: 2 })
  t.like((await settlePhase({ ledger, seam: shop, phase })).state, { epoch: 2, share: 0 })

  // An advance that was intended before, and not carried out, does not open the route again.
  await advancePhase({ ...act, share: 1000 })
  await ledger.query(
    `INSERT INTO phase_journal (phase, epoch, step, verb, share, who, why) VALUES ($1, 4, 'intended', 'advance', 5000, 'bob', '')`,
    [phase],
  )
  await ledger.query('UPDATE phase SET epoch = 4, share = 5000')
  await rollbackPhase({ ...act, ledger: gone })
  t.like((await settlePhase({ ledger, seam: shop, phase })).state, { epoch: 4, share: 0 })
  t.deepEqual(await route(), { epoch: 4, share: 0 })
  t.like(await advancePhase({ ...act, share: 1000 }), { changed: true, journaled: true, epoch: 5 })

  await t.throwsAsync(rollbackPhase({ ...act, ledger: gone, seam: gone }), { code: 'ECONNREFUSED' })
})

test.serial('a Shop DB restored to an older epoch: a rollback still gets through', async (t) => {
  await advancePhase({ ...act, share: 1000 })
  await advancePhase({ ...act, share: 5000 })
  await rollbackPhase(act)
  await shop.query('UPDATE strangler.route SET epoch = 2, share = 5000')
  t.like(await rollbackPhase(act), { changed: true, shareBefore: 5000, epoch: 4 })
  t.deepEqual(await route(), { epoch: 4, share: 0 })
})

test.serial(
  'a Shop DB without the route row: nothing is direct, and the journal says so',
  async (t) => {
    await advancePhase({ ...act, share: 5000 })
    await shop.query('DELETE FROM strangler.route')
    t.is((await settlePhase({ ledger, seam: shop, phase })).state.share, 0)
    t.like(await advancePhase({ ...act, share: 1000 }), { changed: true, shareBefore: 0, epoch: 2 })
  },
)

test.serial('a submit that read the old route keeps the flip from being complete', async (t) => {
  await inTransaction(shop, async (client) => {
    await client.query(
      `INSERT INTO public.orders (id, source, status, material, quantity) VALUES ($1, 'shop', 'SUBMITTED', 'PLA', 1)`,
      [randomUUID()],
    )
    const moved = await advancePhase({ ...act, share: 10_000, completeWithinMs: 50 })
    t.like(moved, { changed: true, complete: false, epoch: 1 })
    t.regex(moved.heldBy ?? '', /pid \d+/)
    t.is((await phaseStatus({ ledger, seam: shop, phase })).step, 'in force')
    // In force for everybody else all the same.
    t.deepEqual(await route(), { epoch: 1, share: 10_000 })
  })
  t.is((await settlePhase({ ledger, seam: shop, phase })).outcome, 'finished')
})

test.serial('40 flips under inserts: path and claim agree, and no order comes late', async (t) => {
  const stop = new AbortController()
  const submitted = Array.from({ length: 8 }, async () => {
    let count = 0
    while (!stop.signal.aborted) {
      await submitOrder(shop, randomUUID())
      count += 1
    }
    return count
  })
  const older = async (epoch: number): Promise<number> => {
    const { rows } = await shop.query<{ count: number }>(
      'SELECT count(*)::int AS count FROM strangler.outbox WHERE epoch < $1',
      [epoch],
    )
    return rows[0]!.count
  }
  const atCompletion = new Map<number, number>()
  for (let flip = 0; flip < 40; flip += 1) {
    const moved =
      flip % 2 === 0 ? await advancePhase({ ...act, share: 5000 }) : await rollbackPhase(act)
    t.true(moved.complete)
    atCompletion.set(moved.epoch, await older(moved.epoch))
  }
  stop.abort()
  const orders = (await Promise.all(submitted)).reduce((sum, count) => sum + count, 0)
  const { rows } = await shop.query<{ rows: number; disagree: number; direct: number }>(
    `SELECT count(*)::int AS rows, count(*) FILTER (WHERE b.path = 'direct')::int AS direct,
            count(*) FILTER (WHERE (b.path = 'direct') <> (o.crm_sent_at IS NOT NULL))::int AS disagree
     FROM public.orders o JOIN strangler.outbox b ON b.order_id = o.id`,
  )
  t.is(rows[0]!.rows, orders)
  t.is(rows[0]!.disagree, 0)
  t.true(rows[0]!.direct > 0)
  for (const [epoch, count] of atCompletion) t.is(await older(epoch), count, `late in ${epoch}`)
  t.log(`${orders} orders, ${rows[0]!.direct} of them direct, 40 flips`)
})
