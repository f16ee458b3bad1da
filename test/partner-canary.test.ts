import test from 'ava'

import { type PartnerTally, submitUntilAccepted } from '../estate/partner-client.ts'
import { torusStl } from '../estate/sample-models.ts'
import { createLog } from '../runtime/log.ts'
import { createPool, type Pool } from '../runtime/postgres.ts'
import { type PartnerEstate, partnerKeys, startPartnerEstate } from './partner-fixture.ts'
import { waitUntil } from './wait-until.ts'

/** A counted step of one partner: exactly so many of its orders, whoever else submits at the same time and wherever. */

let world: PartnerEstate
let ledger: Pool
/** Of two instances of the intake. */
let apis: readonly string[]

test.before(async () => {
  world = await startPartnerEstate({
    without: ['shop', 'crm', 'proxy', 'bridge', 'relay', 'courier', 'watch', 'applier', 'shadow'],
    with: ['intake', 'intake-relay'],
    settings: { mes: { MES_PRICE_US_PER_TRIANGLE: '0' } },
  })
  ledger = createPool(world.estate.databases.ledger, { name: 'test', log: createLog('test') })
  const first = world.intakeApi
  await world.estate.launch('intake', { PORT: '0', INTAKE_NAME: 'intake-2' })
  apis = [first, world.intakeApi]
  await world.intake.query(`INSERT INTO partner (id) VALUES ('Cube')`)
})
test.after.always(async () => {
  await ledger?.end()
  await world?.stop()
})

const why = ['--why', 'a test'] as const
const phase = 'partner-intake'

async function say(expected: number, ...args: string[]): Promise<string> {
  return await sayWith({}, expected, ...args)
}

async function sayWith(
  environment: Readonly<Record<string, string>>,
  expected: number | null,
  ...args: string[]
): Promise<string> {
  const { code, stdout, stderr } = await world.estate.stranglerWith(environment, ...args)
  if (code !== expected) throw new Error(`strangler ${args.join(' ')}: ${code}\n${stdout}${stderr}`)
  return stdout + stderr
}

async function tokens(): Promise<string[]> {
  const { rows } = await world.intake.query<{ token: string }>(
    `SELECT format('%s of %s', count(*), coalesce(partner, 'anybody')) AS token FROM strangler.route_token GROUP BY partner`,
  )
  return rows.map(({ token }) => token)
}

async function submitAll(partner: keyof typeof partnerKeys, count: number, prefix: string) {
  const tally: PartnerTally = { sent: 0, failed: 0, replayed: 0 }
  return await Promise.all(
    Array.from({ length: count }, async (_, n) => {
      const externalId = `${prefix}-${n}`
      return await submitUntilAccepted(
        () => apis[n % apis.length]!,
        partnerKeys[partner],
        {
          externalId,
          fields: { external_id: externalId, material: 'PLA', quantity: '1' },
          model: new Uint8Array(torusStl(100)),
        },
        { tally, again: 1, cutAfterMs: () => undefined },
      )
    }),
  )
}

for (const [args, code, says] of [
  [['--first', '5', '--partner', 'Acne'], 2, /no partner Acne; did you mean Acme\?/],
  [['--first', '5', '--partner', 'xyzxyz'], 2, /no partner xyzxyz; "strangler partner list"/],
  [['--first', '5', '--partner', 'Cube'], 2, /Cube is not behind.*strangler partner enter Cube/],
  [['--share', '10%', '--partner', 'Acme'], 2, /--partner goes with --first only/],
] as const)
  test.serial(`refused, and nothing is journaled: ${args.join(' ')}`, async (t) => {
    t.regex(await say(code, 'advance', phase, ...args, '--force', ...why), says)
    const { rowCount } = await ledger.query('SELECT FROM phase_journal WHERE phase = $1', [phase])
    t.is(rowCount, 0)
  })

test.serial('another phase does not decide by partners', async (t) => {
  const said = await say(2, 'advance', 'orders-direct', '--first', '5', '--partner', 'Acme', ...why)
  t.regex(said, /only partner-intake decides by partners/)
})

for (const point of ['phase.intended', 'phase.routed'] as const)
  test.serial(`killed at ${point}: the next verb carries the same step out, once`, async (t) => {
    const step = ['advance', phase, '--first', '5', '--partner', 'Acme', '--force', ...why]
    await t.throwsAsync(sayWith({ FAILPOINTS: `${point}=kill` }, 0, ...step))
    t.deepEqual(await tokens(), point === 'phase.intended' ? [] : ['5 of Acme'])
    t.regex(await say(2, ...step), /is pinned by "hold"/)
    t.deepEqual(await tokens(), ['5 of Acme'])
    t.regex(await say(0, 'status'), /5 orders of Acme more are admitted, each by a token/)
    await say(0, 'rollback', phase, ...why)
    t.deepEqual(await tokens(), [], 'a rollback leaves none')
    await say(0, 'resume', phase, ...why)
  })

test.serial('exactly five of one partner, with two instances and another partner', async (t) => {
  const moved = await say(
    0,
    'advance',
    phase,
    '--first',
    '5',
    '--partner',
    'Acme',
    '--force',
    ...why,
  )
  t.regex(moved, /exactly 5 orders of Acme more, and then it holds/)
  await submitAll('Bolt', 10, 'before')
  t.deepEqual(await tokens(), ['5 of Acme'], 'nobody else can take them')
  await Promise.all([submitAll('Acme', 40, 'canary'), submitAll('Bolt', 40, 'other')])
  const { rows } = await world.intake.query<{ partner: string; rule: string; n: number }>(
    `SELECT partner, path_reason ->> 'rule' AS rule, count(*)::int AS n FROM partner_order WHERE born = 'intake' GROUP BY 1, 2`,
  )
  t.deepEqual(rows, [{ partner: 'Acme', rule: 'token', n: 5 }])
  t.deepEqual(await tokens(), [])
  const others = await world.intake.query(`SELECT FROM answer WHERE forwarded AND partner = 'Bolt'`)
  t.true((others.rowCount ?? 0) >= 50, 'the orders of the other were passed on')
})

test.serial('why, plan and the timeline tell of the token', async (t) => {
  const { rows } = await world.intake.query<{ id: string }>(
    `SELECT id FROM partner_order WHERE born = 'intake' LIMIT 1`,
  )
  const { id } = rows[0]!
  await waitUntil('the relay has taken it', async () => {
    const { rowCount } = await ledger.query('SELECT FROM order_ledger WHERE order_id = $1', [id])
    return rowCount === 1
  })
  t.regex(await say(0, 'why', id), /by the rule "token", one of exactly 5 orders of Acme/)
  t.regex(await say(0, 'plan', phase), /5 direct \(5 of them by a token\)/)
  const { rows: events } = await ledger.query<{ says: string }>(
    `SELECT says FROM phase_event WHERE kind = 'admit' ORDER BY id DESC LIMIT 1`,
  )
  t.regex(events[0]!.says, /exactly 5 orders of Acme more/)
})

test.serial("a step without a partner is anybody's, as before", async (t) => {
  await say(0, 'resume', phase, ...why)
  await say(0, 'advance', phase, '--first', '3', '--force', ...why)
  t.deepEqual(await tokens(), ['3 of anybody'])
  await Promise.all([submitAll('Acme', 10, 'any'), submitAll('Bolt', 10, 'any')])
  const { rows } = await world.intake.query<{ n: number }>(
    `SELECT count(*)::int AS n FROM partner_order WHERE born = 'intake' AND external_id LIKE 'any-%'`,
  )
  t.deepEqual(rows, [{ n: 3 }])
})
