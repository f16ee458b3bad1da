import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import test from 'ava'

import { EstateOracle } from '../estate/estate-oracle.ts'
import { type Estate, startEstate } from '../estate/estate.ts'
import { violations } from '../estate/invariants.ts'
import { staff } from '../estate/people.ts'
import { withClient } from '../estate/postgres-server.ts'
import { type PrivateRedis, startPrivateRedis } from '../estate/private-redis.ts'
import type { CommandResult } from '../estate/run-command.ts'
import { run } from '../estate/run-command.ts'
import { torusStl } from '../estate/sample-models.ts'
import { gates } from '../flags/gates.ts'
import { phases } from '../flags/phases.ts'
import type { PhaseId } from '../flags/phases.ts'
import { inheritedEnvironment } from '../runtime/config.ts'
import { hasServer } from './optional-server.ts'
import { submit } from './partner-fixture.ts'
import { submitOrders } from './shop-orders-by-sql.ts'
import { waitUntil } from './wait-until.ts'

/**
 * Every page is worked off on one living estate, command by command as a shell takes it, in the order in which a migration
 * meets the pages. What a page is for (a lost order, a queue that is down) is done to the estate before the section that
 * expects it.
 */
const folder = join(import.meta.dirname, '../runbooks')
const root = join(import.meta.dirname, '..')

/** Done before the first command of the section of that heading. */
type Scenes = Readonly<Record<string, () => Promise<void>>>

const pages: Readonly<Record<string, Scenes>> = {
  'orders-direct.md': {
    'Before, with evidence': () => untilCompared('orders-direct'),
    After: () => untilSettled(),
  },
  'statuses-direct.md': {
    'Before, with evidence': () => untilCompared('statuses-direct'),
    After: () => untilSettled(),
  },
  'partner-intake.md': {
    'Before, with evidence': () => untilShadowed('Acme', 20),
    'Enter, with evidence': async () => {
      await partnerOrders(8)
      await untilCompared('partner-intake')
    },
    'Roll back': () => partnerOrders(8),
    After: () => untilSettled(),
  },
  'order-is-lost.md': { Look: loseTwoOrders, After: () => untilSettled() },
  'queue-is-down.md': { Look: queuesGoDown, Watch: queuesComeBack },
  'roll-back-now.md': {
    Kill: async () => {
      await toFirstStep('orders-direct')
      await toFirstStep('statuses-direct')
    },
    'Without Unleash': async () => {
      await toFirstStep('orders-direct')
      await estate.unleash!.process.terminate()
    },
    'Without the ledger': async () => {
      await estate.unleash!.process.restart()
      await toFirstStep('orders-direct')
      await close('ledger')
    },
    'Without the ledger, which is back': () => open('ledger'),
    'Without the command line': () => toFirstStep('orders-direct'),
    After: () => untilSettled(),
  },
  'remove-the-toolkit.md': {
    'Nothing is direct any more': untilAllIsClosed,
    Databases: stopTheToolkit,
  },
}

let estate: Estate
let redis: PrivateRedis | undefined
let bin: string
let environment: Record<string, string>
const lost: string[] = []
const partnerKeys = JSON.stringify({ 'key-of-acme': 'Acme' })

test.before(async () => {
  redis = hasServer('redis-server') ? await startPrivateRedis() : undefined
  const periods = { KILL_PERIOD_MS: '1000', SETTLE_MS: '1000' }
  estate = await startEstate({
    ...(redis !== undefined && { queueUrl: redis.url }),
    unleash: true,
    with: ['reconciler', 'intake', 'intake-relay', 'intake-feed'],
    gates: {
      GATE_MINIMUM: '0',
      GATE_TIMEOUT: '20s',
      // Two cores, and whatever else runs on them: this test is of the pages, not of the proxy's speed.
      GATE_ADDED_P50_MS: '1000',
      GATE_ADDED_P99_MS: '10000',
    },
    settings: {
      mes: { MES_PRICE_US_PER_TRIANGLE: '0', MES_PARTNERS: partnerKeys },
      courier: { ...periods, QUIET_MS: '500', PROBE_MS: '300' },
      watch: periods,
      shadow: { SHADOW_GRACE_MS: '2000' },
      proxy: { PARTNER_SHADOW: 'on' },
    },
  })
  bin = await mkdtemp(join(tmpdir(), 'strangler-bin-'))
  const command = `#!/bin/sh\nexec '${process.execPath}' '${join(root, 'scripts/strangler.ts')}' "$@"\n`
  await writeFile(join(bin, 'strangler'), command)
  await chmod(join(bin, 'strangler'), 0o755)
  const inherited = inheritedEnvironment()
  environment = {
    ...inherited,
    ...estate.operatorEnvironment,
    PATH: `${bin}:${inherited['PATH'] ?? ''}`,
    LEDGER_OWNER_URL: estate.databases.ledger,
    SHOP_OWNER_URL: estate.databases.shop,
    MES_OWNER_URL: estate.databases.mes,
    INTAKE_OWNER_URL: estate.databases.intake,
    MES_PARTNERS_FILE: join(bin, 'partners.json'),
  }
  await writeFile(join(bin, 'partners.json'), partnerKeys)
})
test.after.always(async () => {
  await estate?.stop()
  await redis?.stop()
  await rm(bin, { recursive: true, force: true })
})

type Step =
  | { readonly kind: 'command'; readonly line: string; readonly exitCode: number }
  /** What the person fills in: the test has it from a scene. */
  | { readonly kind: 'fill in'; readonly name: string }
  | { readonly kind: 'sql'; readonly database: 'shop' | 'mes'; readonly sql: string }

interface Section {
  readonly heading: string
  readonly blocks: readonly (readonly Step[])[]
}

/** The sections of a page with what is in their `sh` and `sql` blocks, in order. */
function sectionsOf(text: string): Section[] {
  return text
    .split(/^## /m)
    .slice(1)
    .map((section) => ({
      heading: section.slice(0, section.indexOf('\n')),
      blocks: [...section.matchAll(/^```(\w*)\n([\s\S]*?)^```/gm)].map(([, language, body]) =>
        language === 'sql' ? [sqlOf(body!)] : stepsOf(language!, body!),
      ),
    }))
}

function stepsOf(language: string, body: string): Step[] {
  if (language !== 'sh') throw new Error(`a block of "${language}", which nobody executes`)
  return body
    .trimEnd()
    .split('\n')
    .map((line) => {
      const given = /^export (\w+)=\.\.\./.exec(line)
      if (given !== null) return { kind: 'fill in', name: given[1]! }
      return { kind: 'command', line, exitCode: Number(/ # exit (\d)/.exec(line)?.[1] ?? 0) }
    })
}

function sqlOf(body: string): Step {
  const database = /^-- (Shop|MES) DB\n/.exec(body)?.[1]
  if (database === undefined) throw new Error(`SQL that names no database: ${body}`)
  return { kind: 'sql', database: database === 'Shop' ? 'shop' : 'mes', sql: body }
}

async function pageOf(name: string): Promise<string> {
  return readFile(join(folder, name), 'utf8')
}

test('every page of the folder is executed, and every phase has its page', async (t) => {
  const found = (await readdir(folder)).toSorted()
  t.deepEqual(found, Object.keys(pages).toSorted())
  for (const { runbook } of phases) t.true(found.includes(runbook.replace('runbooks/', '')))
})

test('the page of a phase tells every gate and has its five sections', async (t) => {
  for (const { id, runbook } of phases) {
    const text = await readFile(join(root, runbook), 'utf8')
    for (const gate of gates) {
      const row = new RegExp(`^\\| [^|]*\`${gate.id}\`([^|]*)`, 'm').exec(text)
      t.truthy(row, `${id} tells ${gate.id}`)
      t.is(row?.[1]!.includes('(guard)'), gate.guard, `${id}, ${gate.id} is a guard or not`)
    }
    const headings = sectionsOf(text).map(({ heading }) => heading)
    for (const heading of ['Before', 'Flip', 'Watch', 'Roll back', 'After'])
      t.true(headings.includes(heading), `${id}: ${heading}`)
  }
})

test('pages link to pages that are there, and say of every change why', async (t) => {
  for (const name of Object.keys(pages)) {
    const text = await pageOf(name)
    for (const [, to] of text.matchAll(/\]\(([^)]+)\)/g))
      t.true(Object.hasOwn(pages, to!), `${name} links to ${to}`)
    for (const { blocks } of sectionsOf(text))
      for (const step of blocks.flat())
        if (step.kind === 'command') t.regex(step.line, /\bstrangler /, `${name}: ${step.line}`)
  }
})

/** Orders flow from before the first command to after the last one. */
const perCommand = 3
let submitted = 0

async function customersOrder(count: number): Promise<string[]> {
  const ids = await submitOrders(estate, count)
  submitted += ids.length
  return ids
}

for (const [name, scenes] of Object.entries(pages)) {
  test.serial(`${name}: every command does what the page says, on a living estate`, async (t) => {
    t.timeout(600_000)
    const begun = new Set<string>()
    const begin = async (heading: string): Promise<void> => {
      const scene = scenes[heading]
      if (scene === undefined) return
      begun.add(heading)
      await scene()
    }
    const sections = sectionsOf(await pageOf(name))
    t.true(sections.flatMap(({ blocks }) => blocks).length > 0, `${name} has commands`)
    for (const { heading, blocks } of sections) {
      await begin(heading)
      for (const [index, block] of blocks.entries()) {
        if (index === 1) for (const more of laterBlocks) await begin(`${heading}, ${more}`)
        for (const step of block) {
          await customersOrder(perCommand)
          await carryOut(`${name}, ${heading}`, step)
        }
      }
    }
    t.deepEqual([...begun], Object.keys(scenes), 'every scene has its section')
  })
}

/** A scene between the first block of a section and the second. */
const laterBlocks = ['with evidence', 'which is back'] as const

async function carryOut(where: string, step: Step): Promise<void> {
  switch (step.kind) {
    case 'fill in':
      if (environment[step.name] === undefined)
        throw new Error(`${where}: nobody knows ${step.name}`)
      return
    case 'sql':
      await withClient(estate.databases[step.database], (client) => client.query(step.sql))
      return
    case 'command': {
      const { code, stdout, stderr } = await shell(step.line)
      const said = `${stdout}${stderr}`
      if (code !== step.exitCode || said === '')
        throw new Error(`${where}: ${step.line}\nended with ${code}, not ${step.exitCode}\n${said}`)
      return
    }
    default:
      step satisfies never
  }
}

function shell(line: string): Promise<CommandResult> {
  return run('sh', ['-c', line], environment, true)
}

async function say(line: string): Promise<string> {
  const { code, stdout, stderr } = await shell(line)
  if (code !== 0) throw new Error(`${line}\nended with ${code}\n${stdout}${stderr}`)
  return stdout
}

function inDatabase<Row extends object>(
  database: 'shop' | 'ledger' | 'mes' | 'broker' | 'intake',
  sql: string,
  ...values: unknown[]
): Promise<Row[]> {
  return withClient(
    estate.databases[database],
    async (client) => (await client.query<Row>(sql, values)).rows,
  )
}

let ofPartners = 0

/** A partner submits at its address of always. */
async function partnerOrders(count: number): Promise<void> {
  for (let n = 0; n < count; n += 1) {
    ofPartners += 1
    const { status, text } = await submit(`${estate.pages.mes}/api/partner/v1`, 'key-of-acme', {
      fields: [
        ['external_id', `A-${ofPartners}`],
        ['material', 'PLA'],
        ['quantity', '1'],
      ],
      model: torusStl(100),
    })
    if (status !== 201) throw new Error(`${status} ${text}`)
  }
}

/** The shadow has compared something that went through CRM. */
async function untilCompared(phase: PhaseId): Promise<void> {
  await customersOrder(20)
  await waitUntil('the shadow has compared', async () => {
    const rows = await inDatabase('ledger', compared, phase)
    return rows.length > 0
  })
}

/** The proxy has compared so many orders of a partner. It looks at them from when it has learned of the partner's keys. */
async function untilShadowed(partner: string, orders: number): Promise<void> {
  await waitUntil('the orders are compared', async () => {
    await partnerOrders(2)
    const rows = await inDatabase('intake', shadowed, partner, orders)
    return rows.length > 0
  })
}

const shadowed = 'SELECT FROM partner_shadow_count WHERE partner = $1 HAVING sum(compared) >= $2'

const compared = 'SELECT FROM parity_count WHERE phase = $1 AND compared > 0'

/** Every order that was submitted is in the MES once, and its price in the Shop. */
async function untilSettled(): Promise<void> {
  const oracle = new EstateOracle(estate)
  await waitUntil(
    'every order in the MES, and its price in the Shop',
    async () => {
      const { orders } = await oracle.findings()
      const [shop] = await inDatabase<{ unpriced: number }>(
        'shop',
        `SELECT count(*)::int AS unpriced FROM public.orders WHERE status = 'SUBMITTED' OR price IS NULL`,
      )
      const { lost: missing, duplicated } = orders
      if (orders.submitted !== submitted)
        throw new Error(`${orders.submitted} submitted, not ${submitted}`)
      if (missing === 0 && duplicated === 0 && shop!.unpriced === 0) return true
      throw new Error(`${missing} lost, ${duplicated} doubled, ${shop!.unpriced} without a price`)
    },
    120_000,
  )
}

/** From wherever a page has left the phase. */
async function toFirstStep(phase: PhaseId): Promise<void> {
  await waitUntil('the last rollback has its receipt', async () => {
    const [last] = await inDatabase<{ verb: string; step: string }>(
      'ledger',
      'SELECT verb, step FROM phase_journal WHERE phase = $1 ORDER BY phase_journal.id DESC LIMIT 1',
      phase,
    )
    return last?.verb !== 'rollback' || last.step === 'verified'
  })
  await say(`strangler resume ${phase} --why "a test"`)
  await say(`strangler advance ${phase} --share 10% --wait 2m --why "a test"`)
}

/**
 * One is lost in the MES's queue, as by a broker that lost its disk; one is deleted in the MES by a person. Both ten minutes ago.
 */
async function loseTwoOrders(): Promise<void> {
  await say('strangler resume orders-direct --why "a test"')
  await say('strangler advance orders-direct --share 50% --wait 2m --why "a test"')
  await customersOrder(20)
  await untilSettled()

  await estate.process('mes').terminate()
  await customersOrder(20)
  const inQueue = await waitUntil('a direct order is in the queue of the MES', async () => {
    const [found] = await inDatabase<{ id: string }>(
      'ledger',
      `SELECT order_id AS id FROM order_ledger WHERE path = 'direct' AND state = 'delivered' ORDER BY delivered_at DESC LIMIT 1`,
    )
    const gone = await inDatabase(
      'broker',
      `DELETE FROM amq.message WHERE queue = 'mes.orders' AND convert_from(body, 'UTF8') LIKE '%' || $1 || '%' RETURNING 1`,
      found!.id,
    )
    return gone.length > 0 && found!.id
  })
  await estate.process('mes').restart()

  const [deleted] = await inDatabase<{ id: string }>(
    'ledger',
    `SELECT order_id AS id FROM order_ledger WHERE path = 'direct' AND state = 'delivered' AND order_id <> $1 ORDER BY delivered_at LIMIT 1`,
    inQueue,
  )
  await inDatabase('mes', 'DELETE FROM orders WHERE order_id = $1', deleted!.id)
  lost.push(inQueue, deleted!.id)
  environment['ORDER'] = deleted!.id
  const ago = `- interval '10 minutes'`
  await inDatabase(
    'ledger',
    `UPDATE order_ledger SET submitted_at = submitted_at ${ago}, accepted_at = accepted_at ${ago}, sending_at = sending_at ${ago},
       delivered_at = delivered_at ${ago}, rung_at = rung_at ${ago} WHERE order_id = ANY ($1)`,
    lost,
  )
  await untilTakenBack()
}

async function untilTakenBack(): Promise<void> {
  await waitUntil(
    'the reconciler has taken the phase back by itself',
    async () => {
      const rows = await inDatabase(
        'ledger',
        `SELECT FROM phase WHERE phase = 'orders-direct' AND share = 0 AND pin = 'rollback' AND pinned_by = 'strangler'`,
      )
      return rows.length === 1
    },
    120_000,
  )
}

/** Redis hangs, where there is one, and the broker lets nobody in. */
async function queuesGoDown(): Promise<void> {
  await toFirstStep('statuses-direct')
  redis?.pause()
  await close('broker')
}

/** CRM has marked orders as sent, and sent nothing: ten minutes ago, so that nobody takes them to be under way. */
async function queuesComeBack(): Promise<void> {
  await waitUntil('CRM has taken up orders', async () => (await takenByCrm()).length > 0)
  redis?.resume()
  await open('broker')
  // What CRM takes up until it is connected again is lost as well.
  await untilCrmSends()
  const taken = await takenByCrm()
  const ago = `- interval '10 minutes'`
  await inDatabase(
    'shop',
    `UPDATE public.orders SET crm_sent_at = crm_sent_at ${ago} WHERE id = ANY ($1::uuid[])`,
    taken,
  )
  await inDatabase(
    'ledger',
    `UPDATE order_ledger SET submitted_at = submitted_at ${ago}, accepted_at = accepted_at ${ago}, rung_at = rung_at ${ago}
     WHERE order_id = ANY ($1)`,
    taken,
  )
  await waitUntil('the gate names what CRM has lost', async () => {
    const rows = await inDatabase(
      'ledger',
      `SELECT FROM gate_result WHERE phase = 'orders-direct' AND gate = 'conservation' AND verdict = 'FAIL' AND order_ids && $1`,
      taken,
    )
    return rows.length === 1
  })
  await waitUntil('the bridges are attached, and nothing waits', async () => {
    const { code, stdout } = await shell('strangler bridge status')
    const [direct] = await inDatabase<{ open: number }>(
      'ledger',
      `SELECT count(*)::int AS open FROM order_ledger WHERE path = 'direct' AND state NOT IN ('delivered', 'cancelled')`,
    )
    return code === 0 && !stdout.includes('NO bridge process') && direct!.open === 0
  })
}

/** And the MES has not told a price of them. */
async function takenByCrm(): Promise<string[]> {
  const rows = await inDatabase<{ id: string }>(
    'shop',
    `SELECT o.id::text FROM public.orders o JOIN strangler.outbox b ON b.order_id = o.id
     WHERE b.path = 'legacy' AND o.status = 'SUBMITTED' AND o.crm_sent_at IS NOT NULL`,
  )
  return rows.map(({ id }) => id)
}

/** CRM takes orders up in the order of their submit: when one of now has arrived, all before it were sent, or are lost. */
async function untilCrmSends(): Promise<void> {
  await waitUntil('CRM is connected to the broker again', async () => {
    const sessions = await inDatabase(
      'broker',
      `SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'legacy-broker-publisher'`,
    )
    // CRM's and the MES's.
    return sessions.length === 2
  })
  await waitUntil('an order has come to the MES through CRM', async () => {
    const sent = await customersOrder(3)
    const last = await waitUntil('the MES has one of them', () => arrived(sent), 15_000)
    return last === 'legacy'
  })
}

/** The path of the last of them that CRM had to send; `direct` where it had to send none. */
async function arrived(ids: readonly string[]): Promise<'legacy' | 'direct' | undefined> {
  const rows = await inDatabase<{ id: string }>(
    'shop',
    `SELECT order_id::text AS id FROM strangler.outbox WHERE order_id = ANY ($1::uuid[]) AND path = 'legacy' ORDER BY outbox.id`,
    ids,
  )
  const last = rows.at(-1)
  if (last === undefined) return 'direct'
  const found = await inDatabase('mes', 'SELECT FROM orders WHERE order_id = $1', last.id)
  return found.length === 1 ? 'legacy' : undefined
}

async function close(database: 'ledger' | 'broker'): Promise<void> {
  const name = new URL(estate.databases[database]).pathname.slice(1)
  await withClient(estate.postgres.url, async (client) => {
    await client.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS false`)
    await client.query(
      'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1',
      [name],
    )
  })
}

async function open(database: 'ledger' | 'broker'): Promise<void> {
  const name = new URL(estate.databases[database]).pathname.slice(1)
  await withClient(estate.postgres.url, (client) =>
    client.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS true`),
  )
}

async function untilAllIsClosed(): Promise<void> {
  await untilSettled()
  const people = staff(estate.pages, { peoplePerDesk: 8, pagesAtOnce: 10, pauseMs: 0, idleMs: 200 })
  try {
    await waitUntil(
      'every order is closed on both sides',
      async () => {
        const counts: number[] = []
        for (const database of ['shop', 'mes'] as const) {
          const sql = `SELECT count(*)::int AS n FROM orders WHERE status <> 'CLOSED'`
          counts.push((await inDatabase<{ n: number }>(database, sql))[0]!.n)
        }
        return (
          counts.every((n) => n === 0) || Promise.reject(new Error(`${counts.join(', ')} open`))
        )
      },
      300_000,
    )
  } finally {
    await people.stop()
  }
}

/** As the page says it: the bridge after those who send through it, the proxy last. */
async function stopTheToolkit(): Promise<void> {
  // What came since stands in the books of both paths: the last look at them.
  const broken = await violations(estate, 'quiet')
  // What CRM sent before the bridge was in, the ledger never heard of.
  const ours = broken.filter(({ invariant }) => invariant !== 'every order is delivered')
  if (ours.length > 0) throw new Error(JSON.stringify(ours))
  for (const name of [
    'reconciler',
    'shadow',
    'intake',
    'intake-relay',
    'intake-feed',
    'relay',
    'courier',
    'watch',
    'applier',
    'bridge',
    'proxy',
  ] as const)
    await estate.process(name).terminate()
}

test.serial('what was lost is in the MES, and the old way alone carries on', async (t) => {
  t.is(lost.length, 2)
  const rows = await inDatabase<{ id: string }>(
    'mes',
    'SELECT order_id::text AS id FROM orders WHERE order_id = ANY ($1)',
    lost,
  )
  t.deepEqual(rows.map(({ id }) => id).toSorted(), lost.toSorted())

  const paths = await inDatabase<{ path: string; statuses: string; n: number }>(
    'ledger',
    `SELECT path, status_path AS statuses, count(*)::int AS n FROM order_ledger WHERE status_path IS NOT NULL GROUP BY 1, 2`,
  )
  t.is(paths.length, 4, 'orders took every combination of paths')

  const ids = await customersOrder(5)
  await waitUntil('they are priced by way of CRM', async () => {
    const priced = await inDatabase(
      'shop',
      `SELECT FROM orders WHERE id = ANY ($1::uuid[]) AND status = 'PRICE_CALCULATED'`,
      ids,
    )
    return priced.length === ids.length
  })
  const [shop] = await inDatabase<{ triggers: number; grants: number; schemas: number }>(
    'shop',
    left,
  )
  t.deepEqual(shop, { triggers: 0, grants: 0, schemas: 0 })
  const [mes] = await inDatabase<{ triggers: number; grants: number; schemas: number }>('mes', left)
  t.deepEqual(mes, { triggers: 0, grants: 0, schemas: 0 })
  const [both] = await inDatabase<{ orders: number; ids: number }>(
    'mes',
    'SELECT count(*)::int AS orders, count(DISTINCT order_id)::int AS ids FROM orders',
  )
  const all = submitted + ofPartners
  t.deepEqual(both, { orders: all, ids: all }, 'none lost, none doubled')
})

/** What reminds of us in a database that is not ours. */
const left = `
  SELECT (SELECT count(*)::int FROM pg_trigger WHERE tgname LIKE 'strangler%') AS triggers,
    (SELECT count(*)::int FROM pg_namespace WHERE nspname LIKE 'strangler%') AS schemas,
    (SELECT count(*)::int FROM (
       SELECT (aclexplode(relacl)).grantee FROM pg_class UNION ALL SELECT (aclexplode(attacl)).grantee FROM pg_attribute
     ) g JOIN pg_roles r ON r.oid = g.grantee WHERE r.rolname LIKE 'strangler%') AS grants`
