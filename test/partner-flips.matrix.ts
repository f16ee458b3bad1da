import { randomInt } from 'node:crypto'

import test from 'ava'

import { type PartnerTally, submitUntilAccepted } from '../estate/partner-client.ts'
import { torusStl } from '../estate/sample-models.ts'
import { createLog } from '../runtime/log.ts'
import { createPool, type Pool } from '../runtime/postgres.ts'
import { type PartnerEstate, partnerKeys, startPartnerEstate, wholeWay } from './partner-fixture.ts'
import { waitUntil } from './wait-until.ts'

/*
 * Partners that retry every error, while the phase goes forward, back, and forward again, and every process of the intake's way is
 * killed: each ends with exactly its orders, each under the one id that it was answered with, on every side.
 */

let world: PartnerEstate
const pool = (url: string): Pool => createPool(url, { name: 'test', log: createLog('test') })
let pools: { readonly mes: Pool; readonly shop: Pool; readonly ledger: Pool }

test.before(async () => {
  world = await startPartnerEstate({
    without: ['shop', 'proxy'],
    with: wholeWay,
    settings: {
      mes: { MES_PRICE_US_PER_TRIANGLE: '0' },
      intake: { MES_ANSWER_MS: '2000' },
      'intake-feed': { FORWARD_SETTLE_MS: '8000' },
      courier: { KILL_PERIOD_MS: '1000', QUIET_MS: '500', PROBE_MS: '300' },
      watch: { KILL_PERIOD_MS: '1000', SETTLE_MS: '1000' },
    },
  })
  const { mes, shop, ledger } = world.estate.databases
  pools = { mes: pool(mes), shop: pool(shop), ledger: pool(ledger) }
  await say(0, 'bridge', 'insert')
})
test.after.always(async () => {
  await Promise.all(Object.values(pools ?? {}).map((each) => each.end()))
  await world?.stop()
})

async function say(expected: number, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await world.estate.strangler(...args)
  if (code !== expected) throw new Error(`strangler ${args.join(' ')}: ${code}\n${stdout}${stderr}`)
  return stdout
}

const why = ['--why', 'a test'] as const

interface Sent {
  readonly externalId: string
  readonly id: string
}

async function submitAll(count: number, tally: PartnerTally, prefix: string): Promise<Sent[]> {
  return Promise.all(
    Array.from({ length: count }, async (_, n) => {
      const externalId = `${prefix}-${n}`
      const id = await submitUntilAccepted(
        () => world.intakeApi,
        partnerKeys.Acme,
        {
          externalId,
          fields: { external_id: externalId, material: 'PLA', quantity: '1' },
          model: new Uint8Array(torusStl(100 + n)),
        },
        {
          tally,
          again: 2,
          cutAfterMs: (tries) => (tries % 3 === 0 ? randomInt(1, 60) : undefined),
          // One in two brings a key of its own.
          headers: n % 2 === 0 ? { 'idempotency-key': `"key-${prefix}-${n}"` } : {},
        },
      )
      return { externalId, id }
    }),
  )
}

/** What every side has of these orders. */
async function expectOnce(
  t: { deepEqual(a: unknown, b: unknown, what?: string): void },
  sent: readonly Sent[],
) {
  const wanted = sent.map(({ externalId, id }) => `${externalId} ${id}`).toSorted()
  const of = async (from: Pool, sql: string): Promise<string[]> => {
    const { rows } = await from.query<{ externalId: string; id: string }>(sql, [
      sent.map(({ externalId }) => externalId),
    ])
    return rows.map(({ externalId, id }) => `${externalId} ${id}`).toSorted()
  }
  const sides = {
    mes: () =>
      of(
        pools.mes,
        `SELECT external_id AS "externalId", order_id AS id FROM orders WHERE external_id = ANY($1::text[])`,
      ),
    shop: () =>
      of(
        pools.shop,
        `SELECT external_id AS "externalId", id FROM public.orders WHERE external_id = ANY($1::text[])`,
      ),
    intake: () =>
      of(
        world.intake,
        `SELECT external_id AS "externalId", id FROM partner_order WHERE external_id = ANY($1::text[])`,
      ),
    ledger: () =>
      of(
        pools.ledger,
        `SELECT source_ref AS "externalId", order_id AS id FROM order_ledger WHERE origin = 'partner:Acme' AND state = 'delivered'
           AND source_ref = ANY($1::text[])`,
      ),
  }
  for (const [side, read] of Object.entries(sides)) {
    await waitUntil(`${side} has them all`, async () => (await read()).length >= wanted.length)
    t.deepEqual(await read(), wanted, side)
  }
}

test.serial(
  'flips, a rollback with its receipt, and a partner that retries everything',
  async (t) => {
    const tally: PartnerTally = { sent: 0, failed: 0, replayed: 0 }
    const sending = submitAll(60, tally, 'flip')
    for (const share of ['10%', '100%'])
      await say(0, 'advance', 'partner-intake', '--share', share, '--force', ...why)
    const receipt: { receipt: { outcome: string; differences: string[] } } = JSON.parse(
      await say(0, 'rollback', 'partner-intake', '--json', ...why),
    )
    t.like(receipt.receipt, { outcome: 'verified', differences: [] })
    await say(0, 'resume', 'partner-intake', ...why)
    await say(0, 'advance', 'partner-intake', '--share', '50%', '--force', ...why)
    const sent = await sending
    await expectOnce(t, sent)
    t.log(
      `${tally.sent} requests for 60 orders, ${tally.failed} of them failed, ${tally.replayed} replayed`,
    )
  },
)

test.serial('every process is killed in turn, on both ways', async (t) => {
  const tally: PartnerTally = { sent: 0, failed: 0, replayed: 0 }
  const sending = submitAll(80, tally, 'kill')
  let ended = false
  const done = sending.finally(() => {
    ended = true
  })
  const victims = [
    'intake',
    'intake-relay',
    'intake',
    'intake-feed',
    'courier',
    'mes',
    'intake',
  ] as const
  for (const [n, victim] of victims.entries()) {
    if (ended) break
    await say(0, 'advance', 'partner-intake', '--share', '100%', '--force', ...why)
    const process = world.estate.process(victim)
    process.kill('SIGKILL')
    await process.exited
    await process.restart()
    if (n % 2 === 1) {
      await say(0, 'kill', 'partner-intake', ...why)
      await say(0, 'resume', 'partner-intake', ...why)
    }
  }
  const sent = await done
  await expectOnce(t, sent)
  t.log(
    `${tally.sent} requests for 80 orders, ${tally.failed} of them failed, ${tally.replayed} replayed`,
  )
})

test.serial('exactly so many orders are admitted, whoever asks at once', async (t) => {
  await say(0, 'rollback', 'partner-intake', ...why)
  await say(0, 'resume', 'partner-intake', ...why)
  await say(0, 'advance', 'partner-intake', '--first', '5', '--force', ...why)
  const tally: PartnerTally = { sent: 0, failed: 0, replayed: 0 }
  const sent = await submitAll(40, tally, 'count')
  const { rows } = await world.intake.query<{ rule: string; n: number }>(
    `SELECT path_reason ->> 'rule' AS rule, count(*)::int AS n FROM partner_order
     WHERE born = 'intake' AND external_id LIKE 'count-%' GROUP BY 1`,
  )
  t.deepEqual(rows, [{ rule: 'token', n: 5 }])
  await expectOnce(t, sent)
})

test.serial(
  'the books of the partners are closed: nothing is lost, doubled or unexplained',
  async (t) => {
    const { stdout } = await world.estate.stranglerWith(
      { GATE_MINIMUM: '0', GATE_WATERMARK: '1s' },
      'gates',
      'partner-intake',
      '--json',
    )
    const { gates }: { gates: { gate: string; verdict: string; says: string }[] } =
      JSON.parse(stdout)
    const of = (name: string) => gates.find(({ gate }) => gate === name)
    for (const name of [
      'conservation',
      'duplicates',
      'parity',
      'in-doubt',
      'dead-letters',
      'lag',
      'running',
    ])
      t.is(of(name)?.verdict, 'PASS', `${name}: ${of(name)?.says}`)
  },
)
