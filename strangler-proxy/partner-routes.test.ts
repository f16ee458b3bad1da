import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'

import test, { type ExecutionContext } from 'ava'

import { startEmbeddedPostgres } from '../estate/embedded-postgres.ts'
import { createPool, type Pool } from '../runtime/postgres.ts'
import { PartnerRoutes } from './partner-routes.ts'

const log = { info: () => undefined, warn: () => undefined, error: () => undefined }
let url = ''
let intake: Pool
let stopServer = () => Promise.resolve()

test.before(async () => {
  const postgres = await startEmbeddedPostgres()
  stopServer = () => postgres.stop()
  url = await postgres.createDatabase('intake')
  intake = createPool(url, { name: 'test', log })
  const file = new URL('../migrations/intake/001_partner_intake.sql', import.meta.url)
  await intake.query(await readFile(file, 'utf8'))
})
test.after.always(async () => {
  await intake?.end()
  await stopServer()
})
test.beforeEach(() => intake.query('TRUNCATE partner, proxy_replica CASCADE'))

const leaseMs = 3000
const settleMs = 5000

/** Beats only when the test says so, on the test's clock. */
function proxy(t: ExecutionContext, address = url) {
  const clock = { ms: 0 }
  const pool = createPool(address, { name: 'test', max: 1, answerWithinMs: 1000, log })
  t.teardown(() => (pool.ended ? Promise.resolve() : pool.end()))
  const routes = new PartnerRoutes({
    pool,
    settleMs,
    leaseMs,
    now: () => clock.ms,
    log,
  })
  return { clock, routes, pool }
}

async function partner(id: string, route: string, version: number, key?: string) {
  await intake.query(
    `INSERT INTO partner (id, route, route_version) VALUES ($1, $2, $3)
     ON CONFLICT (id) DO UPDATE SET route = $2, route_version = $3`,
    [id, route, version],
  )
  if (key !== undefined)
    await intake.query(
      'INSERT INTO api_key (id, partner, secret_sha256) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING',
      [key, id, createHash('sha256').update(key).digest()],
    )
}

async function row() {
  const { rows } = await intake.query<{
    seen: number
    oldest: number
    open: number
    lease: number
  }>(
    `SELECT seen_version::int AS seen, oldest_open::int AS oldest, open_writes AS open, lease_ms AS lease FROM proxy_replica`,
  )
  return rows[0]
}

async function beats(routes: PartnerRoutes): Promise<void> {
  while (await routes.beat());
}

test.serial(
  'a newer version is read and then acknowledged; a revoked key keeps its way',
  async (t) => {
    const { routes } = proxy(t)
    await partner('Acme', 'mes', 1, 'a')
    t.is(routes.sideOf('a'), undefined, 'nothing is known before the first snapshot')
    t.true(await routes.beat())
    t.deepEqual(await row(), { seen: 0, oldest: 0, open: 0, lease: leaseMs + settleMs })
    t.is(routes.sideOf('a'), undefined, 'read, and nobody has been told of it')
    t.false(await routes.beat())
    t.is(routes.sideOf('a'), 'mes')
    t.like(await row(), { seen: 1, oldest: 1 })

    await partner('Acme', 'intake', 2)
    // Of a partner without a key the version counts all the same.
    await partner('Bolt', 'entering', 3)
    await intake.query('UPDATE api_key SET revoked_at = now()')
    await beats(routes)
    t.like(await row(), { seen: 3, oldest: 3 })
    t.is(routes.sideOf('a'), 'intake')
    t.is(routes.sideOf('unknown'), 'mes')
  },
)

test.serial(
  'without an acknowledgement the word is good for the lease, counted from before it was asked',
  async (t) => {
    const { routes, clock } = proxy(t)
    await partner('Acme', 'intake', 1, 'a')
    await beats(routes)
    clock.ms = leaseMs - 1
    t.is(routes.sideOf('a'), 'intake')
    clock.ms = leaseMs
    t.is(routes.sideOf('a'), undefined)
    await beats(routes)
    t.is(routes.sideOf('a'), 'intake')
    clock.ms += leaseMs
    const { routes: cutOff } = proxy(t, 'postgres://nobody:nothing@127.0.0.1:1/none')
    await t.throwsAsync(cutOff.beat())
    t.is(cutOff.sideOf('a'), undefined)
  },
)

test.serial(
  'the oldest open write is told, and one without an answer counts until it has settled',
  async (t) => {
    const { routes, clock } = proxy(t)
    await partner('Acme', 'mes', 1, 'a')
    await beats(routes)
    const [answered, aborted, refused] = [1, 2, 3].map(() => routes.beginMesWrite())
    await partner('Acme', 'entering', 2)
    await beats(routes)
    const late = routes.beginMesWrite()
    await beats(routes)
    t.like(await row(), { seen: 2, oldest: 1, open: 4 })

    answered!.end('passed')
    refused!.end('refused')
    aborted!.end('body_aborted')
    clock.ms = settleMs - 1
    await beats(routes)
    t.like(await row(), { seen: 2, oldest: 1, open: 2 }, 'the MES may still be about to store it')
    clock.ms = settleMs
    await beats(routes)
    t.like(await row(), { seen: 2, oldest: 2, open: 1 })
    late.end('answer_cut')
    await beats(routes)
    t.like(await row(), { seen: 2, oldest: 2, open: 0 }, 'it had answered')
  },
)

test.serial(
  'after the lease a write goes on if it was told of, and another one does not',
  async (t) => {
    const { routes, clock } = proxy(t)
    await beats(routes)
    const told = routes.beginMesWrite()
    await beats(routes)
    const untold = routes.beginMesWrite()
    clock.ms = leaseMs - 1
    t.true(untold.mayGoOn())
    clock.ms = leaseMs
    t.false(untold.mayGoOn())
    t.true(told.mayGoOn())
  },
)

test.serial('who ends takes its word back, or lets it lapse once all has settled', async (t) => {
  await partner('Acme', 'mes', 1, 'a')
  const { routes: quiet } = proxy(t)
  await quiet.start()
  t.is(quiet.sideOf('a'), 'mes', 'known with the start')
  await quiet.stop()
  t.is(await row(), undefined)

  const { routes: cut, clock } = proxy(t)
  await cut.start()
  cut.beginMesWrite().end('drained')
  clock.ms += 1500
  await cut.stop()
  t.like(await row(), { open: 0, lease: settleMs - 1500 })
})

// A proxy that woke sent a partner's order to the MES, behind an entering that had taken it for stopped, and the retry was a second order.
test.serial(
  'one that has lapsed may not act by its old snapshot again while it reads the new one',
  async (t) => {
    await partner('Acme', 'mes', 1, 'a')
    const { clock, routes, pool } = proxy(t)
    await beats(routes)
    t.is(routes.sideOf('a'), 'mes')
    clock.ms += leaseMs
    t.is(routes.sideOf('a'), undefined)
    await partner('Acme', 'intake', 2)
    const sides: (string | undefined)[] = []
    pool.on('acquire', () => sides.push(routes.sideOf('a')))
    await beats(routes)
    t.true(sides.length >= 3, 'acknowledged, read, acknowledged')
    t.deepEqual(new Set(sides), new Set([undefined]))
    t.is(routes.sideOf('a'), 'intake')
  },
)
