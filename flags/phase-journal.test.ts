import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'

import test, { type ExecutionContext } from 'ava'

import { asStranglerError, StranglerError } from '../contracts/errors.ts'
import { createLog } from '../runtime/log.ts'
import { createPool, inTransaction } from '../runtime/postgres.ts'
import { startEstateDatabases, submitOrder } from '../test/estate-databases.ts'
import {
  admitOrders,
  advancePhase,
  killPhase,
  lowerPhase,
  phaseStatus,
  rollbackPhase,
  settlePhase,
} from './phase-journal.ts'
import { holdPhase, resumePhase } from './pin.ts'
import { readTimeline } from './timeline.ts'

const estate = await startEstateDatabases()
const { ledger, shop } = estate
const phase = 'orders-direct'
const act = { ledger, seam: shop, phase, who: 'ann@test', why: 'a test' } as const

test.after.always(() => estate.stop())
test.beforeEach(async () => {
  await ledger.query('TRUNCATE phase, phase_journal, phase_event, replica')
  await shop.query(
    'TRUNCATE strangler.route, strangler.route_token, strangler.outbox, public.orders',
  )
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

test.serial('only the intake admits by partner', async (t) => {
  const error = await t.throwsAsync(admitOrders({ ...act, tokens: 5, partner: 'Acme' }), {
    instanceOf: StranglerError,
  })
  t.is(error.code, 'invalid_argument')
  t.deepEqual(await journal(), [], 'nothing that could not be carried out is intended')
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
      const why = ['--why', 'a test']
      const child = spawn(
        process.execPath,
        [
          new URL('../scripts/strangler.ts', import.meta.url).pathname,
          verb,
          phase,
          ...share,
          ...why,
        ],
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

for (const [verb, back] of [
  ['rollback', rollbackPhase],
  ['kill', killPhase],
] as const) {
  test.serial(`${verb} pins: nothing rises again until somebody resumes it`, async (t) => {
    await advancePhase({ ...act, share: 1000 })
    await back({ ...act, who: 'bob', why: 'prices differ' })
    const error = await t.throwsAsync(advancePhase({ ...act, share: 1000 }), {
      instanceOf: StranglerError,
    })
    t.is(error.code, 'refused')
    t.regex(error.message, new RegExp(`"${verb}" of bob .*prices differ.*strangler resume`))
    t.like(await lowerPhase({ ...act, share: 0 }), { changed: false })
    t.like(await resumePhase(ledger, phase, act), { kind: verb, who: 'bob' })
    t.is(await resumePhase(ledger, phase, act), undefined)
    t.like(await advancePhase({ ...act, share: 1000 }), { changed: true, epoch: 3 })
    t.deepEqual(
      (await readTimeline(ledger, { phase, limit: 10 })).map(({ kind }) => kind),
      ['advance', 'resume', verb, 'advance'],
    )
  })
}

test.serial('a phase that never moved can be pinned, and stands at epoch 0', async (t) => {
  await rollbackPhase(act)
  const status = await phaseStatus({ ledger, seam: shop, phase })
  t.like(status, { epoch: 0, share: 0, step: 'complete', pin: { kind: 'rollback' } })
  await t.throwsAsync(advancePhase({ ...act, share: 1000 }), { message: /pinned/ })
  await resumePhase(ledger, phase, act)
  t.like(await advancePhase({ ...act, share: 1000 }), { epoch: 1, complete: true })
})

test.serial('hold leaves the share, and a lower one is still followed', async (t) => {
  await advancePhase({ ...act, share: 5000 })
  t.is(await holdPhase(ledger, phase, act), undefined)
  t.like(await holdPhase(ledger, phase, { who: 'bob', why: 'me too' }), { who: act.who })
  await t.throwsAsync(advancePhase({ ...act, share: 10_000 }), { message: /pinned by "hold"/ })
  t.like(await lowerPhase({ ...act, share: 1000 }), { changed: true, share: 1000 })
  t.like(await phaseStatus({ ledger, seam: shop, phase }), { share: 1000, pin: { kind: 'hold' } })
})

/** The ledger, but somebody else gets in before its first transaction. */
function overtaken(t: ExecutionContext, somebody: () => Promise<unknown>): typeof ledger {
  const connect = ledger.connect.bind(ledger)
  const slow = createPool(estate.urls.ledger, { name: 'test', log: createLog('test') })
  t.teardown(() => slow.end())
  let first = true
  slow.query = ledger.query.bind(ledger)
  slow.connect = (async () => {
    if (first) {
      first = false
      await somebody()
    }
    return connect()
  }) satisfies () => ReturnType<typeof connect>
  return slow
}

test.serial('a hold that comes in the middle of an advance stops it', async (t) => {
  await advancePhase({ ...act, share: 1000 })
  const slow = overtaken(t, () => holdPhase(ledger, phase, { who: 'bob', why: 'wait' }))
  await t.throwsAsync(advancePhase({ ...act, ledger: slow, share: 5000 }), {
    message: /epoch_conflict/,
  })
  t.like(await phaseStatus({ ledger, seam: shop, phase }), {
    epoch: 1,
    share: 1000,
    step: 'complete',
    pin: { kind: 'hold', who: 'bob' },
  })
  t.deepEqual(await route(), { epoch: 1, share: 1000 })
})

test.serial('20 advances and 20 holds at once: the journal and the route agree', async (t) => {
  const results = await Promise.all(
    Array.from({ length: 20 }, async (_, round) => {
      const own = `pin-${round}`
      const [advanced] = await Promise.allSettled([
        advancePhase({ ...act, share: 100 + round, who: own }),
        holdPhase(ledger, phase, { who: own, why: own }),
      ])
      return advanced.status
    }),
  )
  const { share, pin, epoch } = await phaseStatus({ ledger, seam: shop, phase })
  t.truthy(pin)
  t.is(epoch, results.filter((status) => status === 'fulfilled').length)
  t.deepEqual(await route(), epoch === 0 ? undefined : { epoch, share })
})

test.serial(
  'an exact count: 4 Shops, 200 orders at once: exactly 5, and then it holds',
  async (t) => {
    t.like(await admitOrders({ ...act, tokens: 5 }), { changed: true, share: 0, tokens: 5 })
    const log = createLog('test')
    const shops = Array.from({ length: 4 }, () =>
      createPool(estate.urls.shop, { name: 'test', max: 50, log }),
    )
    try {
      // Connected before the first order, so that all 200 submits are there at once.
      const places = shops.flatMap((each) => Array.from({ length: 50 }, () => each))
      const clients = await Promise.all(places.map((each) => each.connect()))
      await Promise.all(clients.map((client) => submitOrder(client, randomUUID())))
      for (const client of clients) client.release()
    } finally {
      await Promise.all(shops.map((each) => each.end()))
    }
    const decided = await shop.query(`SELECT FROM strangler.outbox`)
    t.is(decided.rowCount, 200)
    const { rows } = await shop.query<{ direct: number; claimed: number; rules: string[] }>(
      `SELECT count(*)::int AS direct, count(o.crm_sent_at)::int AS claimed, array_agg(DISTINCT b.reason ->> 'rule') AS rules
     FROM strangler.outbox b JOIN public.orders o ON o.id = b.order_id WHERE b.path = 'direct'`,
    )
    t.deepEqual(rows[0], { direct: 5, claimed: 5, rules: ['token'] })
    t.like(await phaseStatus({ ledger, seam: shop, phase }), {
      tokens: 5,
      pin: { kind: 'hold' },
      route: { tokens: 0 },
    })
  },
)

test.serial('a submit that fails gives its token back', async (t) => {
  await admitOrders({ ...act, tokens: 1 })
  const error = new Error('the customer went away')
  await t.throwsAsync(
    inTransaction(shop, async (client) => {
      await client.query(
        `INSERT INTO public.orders (id, source, status, material, quantity) VALUES ($1, 'shop', 'SUBMITTED', 'PLA', 1)`,
        [randomUUID()],
      )
      throw error
    }),
    { is: error },
  )
  const id = randomUUID()
  await submitOrder(shop, id)
  const { rows } = await shop.query(`SELECT path FROM strangler.outbox WHERE order_id = $1`, [id])
  t.deepEqual(rows, [{ path: 'direct' }])
})

test.serial(
  'a customer who holds a token open keeps nobody waiting, not even a kill',
  async (t) => {
    await admitOrders({ ...act, tokens: 2 })
    await inTransaction(shop, async (client) => {
      const [held, free] = [randomUUID(), randomUUID()]
      await client.query(
        `INSERT INTO public.orders (id, source, status, material, quantity) VALUES ($1, 'shop', 'SUBMITTED', 'PLA', 1)`,
        [held],
      )
      await submitOrder(shop, free)
      const killed = await killPhase({ ...act, completeWithinMs: 0 })
      t.like(killed, { changed: true, complete: false, epoch: 2 })
      const after = randomUUID()
      await submitOrder(shop, after)
      const { rows } = await shop.query<{ path: string }>(
        `SELECT path FROM strangler.outbox WHERE order_id = ANY($1::uuid[]) ORDER BY id`,
        [[free, after]],
      )
      t.deepEqual(
        rows.map(({ path }) => path),
        ['direct', 'legacy'],
      )
    })
  },
)

test.serial('a kill that an advance overtakes kills that, too', async (t) => {
  await advancePhase({ ...act, share: 1000 })
  await lowerPhase({ ...act, share: 0 })
  // It comes between the kill's look and its pin.
  const slow = overtaken(t, () => advancePhase({ ...act, share: 1000 }))
  const killed = await killPhase({ ...act, ledger: slow })
  t.is(killed.share, 0)
  t.like(await phaseStatus({ ledger, seam: shop, phase }), { share: 0, pin: { kind: 'kill' } })
  t.like(await route(), { share: 0 })
})

test.serial('a kill without the ledger outlives what the journal still intends', async (t) => {
  const gone = createPool('postgres://127.0.0.1:9/none', { name: 'test', log: createLog('test') })
  await ledger.query(
    `INSERT INTO phase_journal (phase, epoch, step, verb, share, who, why) VALUES ($1, 1, 'intended', 'advance', 5000, 'bob', '')`,
    [phase],
  )
  await ledger.query('INSERT INTO phase (phase, epoch, share, seed) VALUES ($1, 1, 5000, 1)', [
    phase,
  ])
  await killPhase({ ...act, ledger: gone })
  await settlePhase({ ledger, seam: shop, phase })
  t.like(await phaseStatus({ ledger, seam: shop, phase }), { share: 0, pin: { kind: 'hold' } })
  t.like(await route(), { share: 0 })
})

test.serial('a kill takes back the tokens that are left', async (t) => {
  await admitOrders({ ...act, tokens: 3 })
  await submitOrder(shop, randomUUID())
  t.like(await killPhase(act), { changed: true, epoch: 2 })
  const id = randomUUID()
  await submitOrder(shop, id)
  const { rows } = await shop.query(`SELECT path FROM strangler.outbox WHERE order_id = $1`, [id])
  t.deepEqual(rows, [{ path: 'legacy' }])
})

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
  // Nothing is open; an epoch of its own all the same, since nobody knows what the ledger intends.
  t.like(await rollbackPhase({ ...act, ledger: gone }), { changed: false, epoch: 3 })
  const found = (await settlePhase({ ledger, seam: shop, phase })).state
  t.like(found, { epoch: 3, share: 0, pin: { kind: 'hold' } })
  await resumePhase(ledger, phase, act)

  // An advance that was intended before, and not carried out, does not open the route again.
  await advancePhase({ ...act, share: 1000 })
  await ledger.query(
    `INSERT INTO phase_journal (phase, epoch, step, verb, share, who, why) VALUES ($1, 5, 'intended', 'advance', 5000, 'bob', '')`,
    [phase],
  )
  await ledger.query('UPDATE phase SET epoch = 5, share = 5000')
  await rollbackPhase({ ...act, ledger: gone })
  t.like((await settlePhase({ ledger, seam: shop, phase })).state, { epoch: 5, share: 0 })
  await resumePhase(ledger, phase, act)
  t.deepEqual(await route(), { epoch: 5, share: 0 })
  t.like(await advancePhase({ ...act, share: 1000 }), { changed: true, journaled: true, epoch: 6 })

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
    await resumePhase(ledger, phase, act)
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
      flip % 2 === 0
        ? await advancePhase({ ...act, share: 5000 })
        : await lowerPhase({ ...act, share: 0 })
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
