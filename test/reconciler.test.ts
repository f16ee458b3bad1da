import test from 'ava'

import { bucketOf } from '../contracts/path-share.ts'
import { type Estate, startEstate } from '../estate/estate.ts'
import { withClient } from '../estate/postgres-server.ts'
import { evidenceHash, readApprovals } from '../flags/approvals.ts'
import { readGates } from '../flags/gates.ts'
import { phaseStatus } from '../flags/phase-journal.ts'
import { migrationSeed } from '../flags/phases.ts'
import { readTimeline } from '../flags/timeline.ts'
import { setWish } from '../flags/unleash/set-wish.ts'
import { unleashAdmin } from '../flags/unleash/unleash-admin.ts'
import type { UnleashAdmin } from '../flags/unleash/unleash-admin.ts'
import { readWish } from '../flags/wish.ts'
import { createLog } from '../runtime/log.ts'
import { createPool, type Pool } from '../runtime/postgres.ts'
import { submitOrders } from './shop-orders-by-sql.ts'
import { waitUntil } from './wait-until.ts'

/** What people wish in the real Unleash, what the gates allow of it, and what a breach takes back. */
let estate: Estate
let ledger: Pool
let shop: Pool
let admin: UnleashAdmin

const phase = 'orders-direct'
const gates = {
  GATE_MINIMUM: '0',
  GATE_WATERMARK: '5s',
  GATE_ADDED_P50_MS: '1000',
  GATE_ADDED_P99_MS: '10000',
}

test.before(async () => {
  estate = await startEstate({
    unleash: true,
    with: ['reconciler'],
    gates,
    settings: {
      mes: { MES_PRICE_US_PER_TRIANGLE: '0' },
      reconciler: { WISH_AGE_LIMIT: '3s', JUDGE_EVERY: '500ms', METRICS_PORT: '0' },
    },
  })
  for (const command of [
    ['flags', 'apply'],
    ['bridge', 'insert'],
  ])
    await say(0, ...command)
  const log = createLog('test')
  ledger = createPool(estate.databases.ledger, { name: 'test', log })
  shop = createPool(estate.databases.shop, { name: 'test', log })
  admin = unleashAdmin({
    url: estate.operatorEnvironment['UNLEASH_URL']!,
    token: estate.operatorEnvironment['UNLEASH_ADMIN_TOKEN']!,
  })
})
test.after.always(async () => {
  await ledger?.end()
  await shop?.end()
  await estate?.stop()
})

async function say(code: number, ...args: string[]): Promise<string> {
  const said = await estate.strangler(...args)
  if (said.code !== code)
    throw new Error(
      `strangler ${args.join(' ')} ended with ${said.code}: ${said.stdout}${said.stderr}`,
    )
  return said.stdout
}

const because = ['--why', 'a test'] as const

function inForce(): ReturnType<typeof phaseStatus> {
  return phaseStatus({ ledger, seam: shop, phase })
}

function reaches(share: number): Promise<true> {
  return waitUntil(`${share} in force`, async () => {
    const state = await inForce()
    if (state.share === share) return true
    const open = (await readGates(ledger, phase, 30_000)).filter(
      ({ verdict }) => verdict !== 'PASS',
    )
    throw new Error(
      `${state.share}; ${open.map(({ gate, says }) => `${gate}: ${says}`).join('; ')}`,
    )
  })
}

async function pathsOf(ids: readonly string[]): Promise<Map<string, string>> {
  const { rows } = await shop.query<{ id: string; path: string }>(
    'SELECT order_id::text AS id, path FROM strangler.outbox WHERE order_id = ANY($1::uuid[])',
    [ids],
  )
  return new Map(rows.map((row) => [row.id, row.path]))
}

test.serial(
  'a click on 10 % moves 10 % of the orders, and the journal says whose wish it was',
  async (t) => {
    await setWish(admin, phase, 1000)
    await reaches(1000)
    const ids = await submitOrders(estate, 200)
    const paths = await pathsOf(ids)
    t.deepEqual(
      ids.filter((id) => (paths.get(id) === 'direct') !== bucketOf(id, migrationSeed) < 1000),
      [],
    )
    t.like((await inForce()).last, { verb: 'advance', who: 'Unleash' })
    t.regex(await say(0, 'status'), /orders-direct: 10 % in force.*\n  wanted: 10 %, read/)
  },
)

test.serial('the command raises the same wish, and waits until it is in force', async (t) => {
  t.regex(await say(0, 'advance', phase, '--share', '50%', ...because), /10 % -> 50 %/)
  const asked = (await readTimeline(ledger, { phase, limit: 20 })).find(({ says }) =>
    says.startsWith('asks Unleash for 50 %'),
  )
  t.like(asked, { kind: 'wish', says: 'asks Unleash for 50 %: a test' })
  t.regex(asked?.who ?? '', /.@./)
  const flag = await admin.readFlag(phase)
  t.is(flag.state === 'found' ? flag.strategies[0]?.parameters['rollout'] : '', '50')
})

test.serial('held, it follows a lower wish and no higher one', async (t) => {
  await say(0, 'hold', phase, ...because)
  await setWish(admin, phase, 9000)
  await waitUntil('the wish is read', async () => (await readWish(ledger, phase))?.share === 9000)
  const refused = await estate.strangler('advance', phase, '--share', '90%', ...because)
  t.is(refused.code, 2)
  t.regex(refused.stderr, /pinned by "hold"/)
  t.is((await inForce()).share, 5000)
  await setWish(admin, phase, 2000)
  await reaches(2000)
  await say(0, 'resume', phase, ...because)
})

test.serial(
  'an archived flag is unknown and not 0 %: what is in force stays, and kill works',
  async (t) => {
    await admin.setEnabled(phase, true)
    await archive(phase)
    await waitUntil('unknown', async () => (await readWish(ledger, phase))?.share === undefined)
    t.is((await inForce()).share, 2000)
    t.like(await health(), { status: 'stale', wishes: { [phase]: { state: 'unknown' } } })
    t.regex(await say(0, 'status'), /wanted: UNKNOWN \(.*\): what is in force stays/)
    t.like(JSON.parse(await say(0, 'kill', phase, '--json', ...because)), {
      changed: true,
      share: 0,
    })
    await say(0, 'flags', 'apply')
    await say(0, 'resume', phase, ...because)
    await waitUntil('known again', async () => (await readWish(ledger, phase))?.share !== undefined)
  },
)

test.serial(
  'a frozen Unleash: unknown by its age, kill and rollback work, and it recovers',
  async (t) => {
    await say(0, 'advance', phase, '--share', '10%', ...because)
    const unleash = estate.unleash!
    unleash.process.pause()
    try {
      await waitUntil('unknown', async () => (await readWish(ledger, phase))?.share === undefined)
      t.is((await inForce()).share, 1000)
      const back = JSON.parse(await say(0, 'kill', phase, '--json', ...because))
      t.like(back, { changed: true, share: 0, journaled: true })
    } finally {
      unleash.process.resume()
    }
    await waitUntil('known again', async () => (await readWish(ledger, phase))?.share === 1000)
    // Wanted again, and pinned: a kill outranks the wish.
    t.is((await inForce()).share, 0)
    await say(0, 'rollback', phase, ...because)
    await waitUntil(
      'the wish is withdrawn',
      async () => (await readWish(ledger, phase))?.share === 0,
    )
    await say(0, 'resume', phase, ...because)
  },
)

test.serial(
  'an order lost while people think: rolled back, named, and nobody approved that',
  async (t) => {
    await say(0, 'advance', phase, '--share', '100%', ...because)
    const [lost] = await submitOrders(estate, 20)
    await waitUntil('it is in the MES', async () => (await inMes(lost!)) === 1)
    await waitUntil('its price is told', async () => {
      const { rows } = await shop.query(
        'SELECT FROM public.orders WHERE id = $1 AND price IS NOT NULL',
        [lost],
      )
      return rows.length === 1
    })
    await say(0, 'approve', phase, '--share', '100%', ...because)
    const { epoch } = await inForce()
    t.is((await readApprovals(ledger, { phase, epoch, share: 10_000 })).length, 1)

    await withClient(estate.databases.mes, (client) =>
      client.query('DELETE FROM orders WHERE order_id = $1', [lost]),
    )
    await reaches(0)
    const state = await inForce()
    t.like(state.pin, { kind: 'rollback', who: 'strangler' })
    t.regex(state.pin?.why ?? '', new RegExp(`breach of conservation: .*${lost}`))
    // Back first, told afterwards.
    const breach = await waitUntil('the breach is told', async () =>
      (await readTimeline(ledger, { phase, limit: 50 })).find(({ kind }) => kind === 'breach'),
    )
    t.true(JSON.stringify(breach.detail).includes(lost!))
    t.deepEqual(await readApprovals(ledger, { phase, epoch, share: 10_000 }), [])

    await waitUntil('the receipt', async () => (await inForce()).rollback !== undefined)
    await say(0, 'resume', phase, ...because)
    const refused = await estate.strangler('advance', phase, '--share', '100%', ...because)
    t.is(refused.code, 2)
    t.regex(refused.stdout, new RegExp(`FAIL conservation: .*\\n.*${lost}`))
    t.is((await inForce()).share, 0)

    await say(0, 'redrive', lost!, ...because)
    await waitUntil('it is back', async () => (await inMes(lost!)) === 1)
    // The wish of 100 % still stands, and is carried out now, step by step.
    await reaches(10_000)
  },
)

test.serial(
  'an order that the legacy path lost blocks, and sends nothing back to that path',
  async (t) => {
    await say(0, 'rollback', phase, ...because)
    const [lost] = await submitOrders(estate, 5)
    await waitUntil('CRM has brought it', async () => (await inMes(lost!)) === 1)
    await waitUntil('its price is told', async () => {
      const { rows } = await shop.query(
        'SELECT FROM public.orders WHERE id = $1 AND price IS NOT NULL',
        [lost],
      )
      return rows.length === 1
    })
    await say(0, 'resume', phase, ...because)
    await say(0, 'advance', phase, '--share', '10%', ...because)
    await withClient(estate.databases.mes, (client) =>
      client.query('DELETE FROM orders WHERE order_id = $1', [lost]),
    )
    await waitUntil('the gate sees it', async () =>
      (await readGates(ledger, phase, 30_000)).some(
        ({ gate, verdict }) => gate === 'conservation' && verdict === 'FAIL',
      ),
    )
    const refused = await estate.strangler('advance', phase, '--share', '50%', ...because)
    t.is(refused.code, 2, refused.stdout)
    t.regex(refused.stdout, new RegExp(`FAIL conservation: .*\\n.*${lost}`))
    t.like(await inForce(), { share: 1000, pin: undefined })
    // What the bridge has passed on within ten seconds may be on its way still.
    await waitUntil('redriven', async () => {
      const { code } = await estate.strangler('redrive', lost!, ...because)
      return code === 0
    })
    await reaches(5000)
  },
)

test.serial('two people must approve a step where that is asked for', async (t) => {
  await say(0, 'rollback', phase, ...because)
  // First: one that asks nobody would follow the wish that stands as soon as it may.
  await estate.process('reconciler').terminate()
  await say(0, 'resume', phase, ...because)
  await estate.launch('reconciler', { APPROVALS_NEEDED: '2' })
  await setWish(admin, phase, 1000)
  const approval = async () =>
    (await readGates(ledger, phase, 30_000)).find(({ gate }) => gate === 'approval')
  await waitUntil('it waits for people', async () => (await approval())?.verdict === 'INCONCLUSIVE')
  const by = (who: string) => say(0, 'approve', phase, '--share', '10%', '--who', who, ...because)
  await by('ann')
  await by('ann')
  await waitUntil('one person', async () => (await approval())?.measured.startsWith('1 ') === true)
  t.is((await inForce()).share, 0)
  t.is(evidenceHash(await readGates(ledger, phase, 30_000)).length, 64)
  await by('bob')
  await reaches(1000)
})

test.serial('without a reconciler the command says that nobody hears the wish', async (t) => {
  await estate.process('reconciler').terminate()
  const said = await estate.strangler('advance', phase, '--share', '50%', ...because)
  t.is(said.code, 2)
  t.regex(said.stderr, /no reconciler runs/)
  t.is((await inForce()).share, 1000)
})

async function health(): Promise<unknown> {
  const said = estate
    .process('reconciler')
    .lastLines(500)
    .find((line) => line.includes('"event":"metrics"'))
  const address: unknown = JSON.parse(said ?? '{}')
  if (typeof address !== 'object' || address === null || !('port' in address))
    throw new Error('the reconciler has told no port')
  return (await fetch(`http://127.0.0.1:${String(address.port)}/health`)).json()
}

async function inMes(id: string): Promise<number> {
  return withClient(estate.databases.mes, async (client) => {
    const { rows } = await client.query<{ n: number }>(
      'SELECT count(*)::int AS n FROM orders WHERE order_id = $1',
      [id],
    )
    return rows[0]!.n
  })
}

async function archive(flag: string): Promise<void> {
  const answer = await fetch(`${estate.unleash!.url}/api/admin/projects/default/features/${flag}`, {
    method: 'DELETE',
    headers: { authorization: estate.unleash!.adminToken },
  })
  if (!answer.ok) throw new Error(`archive: HTTP ${answer.status}`)
}
