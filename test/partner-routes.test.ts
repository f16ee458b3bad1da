import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'

import test, { type ExecutionContext } from 'ava'

import type { NodeProcess } from '../estate/child-process.ts'
import { type Estate, startEstate } from '../estate/estate.ts'
import { freePort } from '../estate/free-port.ts'
import { createLog } from '../runtime/log.ts'
import { createPool, type Pool } from '../runtime/postgres.ts'
import { RawClient } from '../strangler-proxy/stub-client.ts'
import { formBytes, type PartAnswer, submit } from './partner-fixture.ts'
import { waitUntil } from './wait-until.ts'

/*
 * Partners move behind the intake and back while they order through two proxies. The MES makes an order as often as it is sent
 * one, so whatever is asked twice shows.
 */

const steps = [
  ['imported', 'mes'],
  ['entering', 'entering'],
  ['let-go', 'entering'],
  ['caught-up', 'entering'],
  ['entered', 'intake'],
] as const
const partners = ['Load', 'Frozen', 'Silent', 'Back', ...steps.map(([step]) => step)]
const keyOf = (partner: string): string => `key-of-${partner}`
const why = ['--why', 'a test'] as const

let estate: Estate
let intake: Pool
let mes: Pool
let folder: string
let proxies: readonly { readonly process: NodeProcess; readonly port: number }[]

test.before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'strangler-partners-'))
  const file = join(folder, 'keys.json')
  const keys = JSON.stringify(Object.fromEntries(partners.map((name) => [keyOf(name), name])))
  await writeFile(file, keys)
  estate = await startEstate({
    without: ['bridge', 'relay', 'courier', 'watch', 'applier', 'shadow'],
    with: ['intake'],
    settings: {
      mes: { MES_PARTNERS: keys },
      intake: { MOVING_WAIT_MS: '1000' },
      proxy: { PARTNER_SETTLE_MS: '500' },
    },
  })
  const log = createLog('test')
  intake = createPool(estate.databases.intake, { name: 'test', log })
  mes = createPool(estate.databases.mes, { name: 'test', log })
  const first = estate.process('proxy')
  const ports = [Number(new URL(estate.pages.mes).port), await freePort()] as const
  const second = await estate.launch('proxy', {
    SHOP_LISTEN_PORT: '0',
    CRM_LISTEN_PORT: '0',
    MES_LISTEN_PORT: String(ports[1]),
  })
  proxies = [
    { process: first, port: ports[0] },
    { process: second, port: ports[1] },
  ]
  const imported = await estate.strangler('partner', 'import-keys', file, ...why)
  if (imported.code !== 0) throw new Error(imported.stderr)
})
test.after.always(async () => {
  for (const each of proxies ?? []) each.process.resume()
  await intake?.end()
  await mes?.end()
  await estate?.stop()
  await rm(folder, { recursive: true, force: true })
})

const model = Buffer.from('solid x\nendsolid x\n')

function fieldsOf(externalId: string): [string, string][] {
  return Object.entries({ external_id: externalId, material: 'PLA', quantity: '1' })
}

function order(partner: string, externalId: string, proxy: number): Promise<PartAnswer> {
  return submit(`http://127.0.0.1:${proxies[proxy]!.port}/api/partner/v1`, keyOf(partner), {
    fields: fieldsOf(externalId),
    model,
  })
}

/** As partners do it: whatever went wrong, the same again, at whichever proxy. */
async function orderUntilTaken(partner: string, externalId: string, proxy: number) {
  return await waitUntil(`${externalId} is taken`, async () => {
    proxy += 1
    const { status, text } = await order(partner, externalId, proxy % proxies.length)
    return status === 201 && idIn(text)
  })
}

function idIn(text: string): string {
  return String(JSON.parse(text).id)
}

/** An order whose last boundary is still to come. */
function slowOrder(partner: string, externalId: string, proxy: number) {
  const { body, contentType } = formBytes({ fields: fieldsOf(externalId), model })
  const client = new RawClient(proxies[proxy]!.port)
    .write(
      `POST /api/partner/v1/orders HTTP/1.1\r\nHost: a\r\nX-Api-Key: ${keyOf(partner)}\r\n` +
        `Content-Type: ${contentType}\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n`,
    )
    .write(body.subarray(0, -20))
  return {
    /** Resolves with the status. */
    async finish(): Promise<number> {
      client.write(body.subarray(-20))
      await client.closed
      return Number(/^HTTP\/1\.1 (\d+)/.exec(client.text)?.[1])
    },
  }
}

/** The second proxy, until the test lets it go on, or ends. */
function freeze(t: ExecutionContext): void {
  proxies[1]!.process.pause()
  t.teardown(() => proxies[1]!.process.resume())
}

async function routeOf(partner: string): Promise<string | undefined> {
  const { rows } = await intake.query<{ route: string }>(
    'SELECT route FROM partner WHERE id = $1',
    [partner],
  )
  return rows[0]?.route
}

interface ProxyRow {
  open: number
  lapsed: boolean
}

async function rowOf(proxy: number): Promise<ProxyRow | undefined> {
  const { rows } = await intake.query<ProxyRow>(
    `SELECT open_writes AS open, clock_timestamp() - seen_at > lease_ms * interval '1 ms' AS lapsed
     FROM proxy_replica WHERE pid = $1`,
    [proxies[proxy]!.process.pid],
  )
  return rows[0]
}

async function setShare(share: number): Promise<void> {
  await intake.query(
    `INSERT INTO strangler.route AS r (phase, epoch, share, seed) VALUES ('partner-intake', 1, $1, 1)
     ON CONFLICT (phase) DO UPDATE SET epoch = r.epoch + 1, share = excluded.share`,
    [share],
  )
}

/** External ids of a partner by how many orders were made of them, at the MES or to be delivered there. */
async function ordersMade(partner: string): Promise<Record<string, number>> {
  const atMes = await mes.query<{ id: string; external: string }>(
    'SELECT order_id AS id, external_id AS external FROM orders WHERE partner = $1',
    [partner],
  )
  const accepted = await intake.query<{ id: string; external: string }>(
    `SELECT id, external_id AS external FROM partner_order WHERE partner = $1 AND born = 'intake'`,
    [partner],
  )
  const made: Record<string, number> = {}
  for (const { external } of [...atMes.rows, ...accepted.rows])
    made[external] = (made[external] ?? 0) + 1
  return made
}

function once(externalIds: readonly string[]): Record<string, number> {
  return Object.fromEntries(externalIds.map((id) => [id, 1]))
}

test.serial(
  'a partner enters under load: who retries everything ends with each order once',
  async (t) => {
    await setShare(5000)
    const taken = new Map<string, string>()
    const over = new AbortController()
    let sent = 0
    const client = async (): Promise<void> => {
      while (!over.signal.aborted) {
        const externalId = `load-${(sent += 1)}`
        taken.set(externalId, await orderUntilTaken('Load', externalId, sent))
      }
    }
    const clients = [client(), client(), client(), client()]
    const slow = [0, 1].map((proxy) => slowOrder('Load', `slow-${proxy}`, proxy))
    for (const proxy of [0, 1])
      await waitUntil('the slow order is told', async () => ((await rowOf(proxy))?.open ?? 0) > 0)
    await waitUntil('there are orders at the MES', () => Promise.resolve(taken.size > 20))

    const entering = estate.strangler('partner', 'enter', 'Load', ...why, '--json')
    await waitUntil('it is entering', async () => (await routeOf('Load')) === 'entering')
    // Only the slow ones are left at the MES, and it waits for these.
    await waitUntil('new orders wait at the intake', async () => {
      const rows = await Promise.all([rowOf(0), rowOf(1)])
      return rows.every((row) => row?.open === 1)
    })
    t.is(await routeOf('Load'), 'entering')
    t.deepEqual(await Promise.all(slow.map((each) => each.finish())), [201, 201])
    const entered = await entering
    t.is(entered.code, 0, entered.stderr)
    const said = JSON.parse(entered.stdout)
    t.like(said, { partner: 'Load', route: 'intake', changed: true, proxies: 2 })
    t.true(said.imported >= 20)

    const before = [...taken]
    await waitUntil('it goes on', () => Promise.resolve(taken.size > before.length + 20))
    over.abort()
    await Promise.all(clients)
    t.deepEqual(await ordersMade('Load'), once([...taken.keys(), 'slow-0', 'slow-1']))
    // Late retries of orders from either side get the first answer.
    for (const [externalId, id] of [before[0]!, before.at(-1)!, [...taken].at(-1)!]) {
      const again = await order('Load', externalId, 0)
      t.is(again.status, 201)
      t.is(idIn(again.text), id)
    }
    t.is((await order('Load', 'slow-0', 1)).headers.get('idempotent-replay'), 'true')
    t.deepEqual(await ordersMade('Load'), once([...taken.keys(), 'slow-0', 'slow-1']))
    const { rows } = await intake.query(
      `SELECT born, count(*)::int FROM partner_order WHERE partner = 'Load' GROUP BY 1`,
    )
    t.is(rows.length, 2, 'orders of both paths')
    t.log(`${taken.size} orders, ${Math.round(said.waitedMs)} ms until the proxies had let go`)
  },
)

test.serial(
  'a frozen proxy with an open order holds up the entering until it goes on',
  async (t) => {
    await setShare(0)
    const slow = slowOrder('Frozen', 'frozen-1', 1)
    await waitUntil('it is told', async () => (await rowOf(1))?.open === 1)
    freeze(t)
    const given = await estate.strangler('partner', 'enter', 'Frozen', ...why, '--within', '1s')
    t.is(given.code, 2)
    t.regex(given.stderr, new RegExp(`proxy ${proxies[1]!.process.pid} on ${hostname()}`))
    t.is(await routeOf('Frozen'), 'mes', 'as before')
    await waitUntil(
      'it orders there again',
      async () => (await order('Frozen', 'frozen-2', 0)).status === 201,
    )

    const entering = estate.strangler('partner', 'enter', 'Frozen', ...why)
    await waitUntil('it is entering', async () => (await routeOf('Frozen')) === 'entering')
    await waitUntil('the frozen one has lapsed', async () => (await rowOf(1))?.lapsed)
    t.like(await rowOf(1), { open: 1 })
    t.is(await routeOf('Frozen'), 'entering')
    proxies[1]!.process.resume()
    t.is(await slow.finish(), 201)
    t.is((await entering).code, 0)
    for (const externalId of ['frozen-1', 'frozen-2'])
      t.is((await order('Frozen', externalId, 1)).headers.get('idempotent-replay'), 'true')
    t.deepEqual(await ordersMade('Frozen'), once(['frozen-1', 'frozen-2']))
  },
)

test.serial(
  'a frozen proxy with nothing open is waited for until its word has lapsed',
  async (t) => {
    await waitUntil('all has settled', async () => (await rowOf(1))?.open === 0)
    freeze(t)
    const entered = await estate.strangler('partner', 'enter', 'Silent', ...why)
    t.is(entered.code, 0, entered.stderr)
    t.regex(entered.stdout, /\b1 proxies acknowledged/)
    t.like(await rowOf(1), { lapsed: true })
    // It wakes with the old route, and may not act by it.
    const late = order('Silent', 'silent-1', 1)
    proxies[1]!.process.resume()
    const { status, text } = await late
    t.true(status === 201 || (status === 503 && /partner_route_unknown/.test(text)), text)
    await orderUntilTaken('Silent', 'silent-1', 1)
    const { rows } = await intake.query(
      `SELECT path_reason FROM partner_order WHERE partner = 'Silent' AND external_id = 'silent-1'`,
    )
    t.is(rows.length, 1, 'it came through the intake')
    t.deepEqual(await ordersMade('Silent'), once(['silent-1']))
  },
)

test.serial('whoever kills the entering, at any step: the same command goes on', async (t) => {
  await setShare(0)
  for (const [step, left] of steps) {
    const partner = step
    t.is((await order(partner, 'first', 0)).status, 201)
    const killed = await t.throwsAsync(
      estate.stranglerWith(
        { FAILPOINTS: `partner.${step}=kill` },
        'partner',
        'enter',
        partner,
        ...why,
      ),
    )
    t.regex(killed?.message ?? '', new RegExp(`failpoint partner\\.${step} kill`))
    t.is(await routeOf(partner), left, step)
    const again = await estate.strangler('partner', 'enter', partner, ...why)
    t.is(again.code, 0, again.stderr)
    t.is(await routeOf(partner), 'intake')
    t.is((await order(partner, 'first', 1)).headers.get('idempotent-replay'), 'true')
    await orderUntilTaken(partner, 'second', 0)
    t.deepEqual(await ordersMade(partner), once(['first', 'second']))
  }
})

test.serial('a partner is released once the MES has all of it, or by force', async (t) => {
  const plain = await estate.strangler('partner', 'release', 'Silent', ...why)
  t.is(plain.code, 0, plain.stderr)
  t.is((await order('Silent', 'silent-2', 0)).headers.get('idempotent-replay'), null)
  t.is(await routeOf('Silent'), 'mes')
  await setShare(10_000)
  t.is((await estate.strangler('partner', 'enter', 'Back', ...why)).code, 0)
  await orderUntilTaken('Back', 'back-1', 0)
  const refused = await estate.strangler('partner', 'release', 'Back', ...why)
  t.is(refused.code, 2)
  t.regex(refused.stderr, /1 orders .* not with the MES yet/)
  t.is(await routeOf('Back'), 'intake')
  const released = await estate.strangler('partner', 'release', 'Back', '--force', ...why)
  t.is(released.code, 0, released.stderr)
  t.regex(released.stdout, /MES DOES NOT DEDUPLICATE: a late retry/)
  t.is((await order('Back', 'back-2', 1)).status, 201)
  const { rows } = await mes.query(`SELECT external_id FROM orders WHERE partner = 'Back'`)
  t.deepEqual(rows, [{ external_id: 'back-2' }])
})
