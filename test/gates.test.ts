import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'

import test from 'ava'

import { gateEvidence } from '../adapters/gates/gate-evidence.ts'
import type { GateEvidence } from '../adapters/gates/gate-evidence.ts'
import { gateSettings, gateShape } from '../adapters/gates/gate-settings.ts'
import { type Estate, startEstate } from '../estate/estate.ts'
import { withClient } from '../estate/postgres-server.ts'
import type { GateId, GateResult } from '../flags/gates.ts'
import type { PhaseId } from '../flags/phases.ts'
import { readConfig } from '../runtime/config.ts'
import { createLog } from '../runtime/log.ts'
import { submitOrders } from './shop-orders-by-sql.ts'
import { waitUntil } from './wait-until.ts'
import { withoutTriggers } from './without-triggers.ts'

/** The evidence of the gates on a whole estate: healthy, with an order lost on each side, and with each source away. */
let estate: Estate
const watermark = 1000
const quick = {
  GATE_MINIMUM: '20',
  GATE_WATERMARK: `${watermark}ms`,
  GATE_TIMEOUT: '2s',
  GATE_PROBE_EVERY: '0s',
  // Two cores, and whatever else runs on them: this test is of verdicts, not of the proxy's speed.
  GATE_ADDED_P50_MS: '1000',
  GATE_ADDED_P99_MS: '5000',
}
const periods = { KILL_PERIOD_MS: '1000', SETTLE_MS: '1000' }
const log = createLog('test')

/** What is tested are the evidence and the counts, not what `advance` makes of them. */
const forced = ['--force', '--why', 'a test'] as const

test.before(async () => {
  estate = await startEstate({
    settings: {
      mes: { MES_PRICE_US_PER_TRIANGLE: '0' },
      courier: { ...periods, QUIET_MS: '500', PROBE_MS: '300' },
      watch: periods,
      shadow: { SHADOW_GRACE_MS: '2000' },
    },
  })
  await say(0, 'bridge', 'insert')
})
test.after.always(() => estate?.stop())

async function say(expected: number, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await estate.stranglerWith(quick, ...args)
  if (code !== expected) throw new Error(`strangler ${args.join(' ')}: ${code}\n${stdout}${stderr}`)
  return stdout
}

function open(change: Record<string, string> = {}): GateEvidence {
  const environment: Record<string, string> = {
    ...estate.operatorEnvironment,
    ...quick,
    ...change,
  }
  return gateEvidence(
    {
      ledger: environment['LEDGER_URL']!,
      shop: environment['SHOP_URL'],
      mes: environment['MES_URL'] === '' ? undefined : environment['MES_URL'],
      intake: environment['INTAKE_URL'],
    },
    gateSettings(readConfig(gateShape, environment)),
    log,
  )
}

async function judge(
  phase: PhaseId = 'orders-direct',
  change: Record<string, string> = {},
): Promise<Map<GateId, GateResult>> {
  const evidence = open(change)
  try {
    return new Map((await evidence.judge(phase)).map((each) => [each.gate, each]))
  } finally {
    await evidence.close()
  }
}

function verdicts(results: ReadonlyMap<GateId, GateResult>): Record<string, string> {
  return Object.fromEntries(
    [...results].map(([gate, { verdict, says }]) => [
      gate,
      verdict === 'PASS' ? verdict : `${verdict}: ${says}`,
    ]),
  )
}

/** What is not PASS. */
function red(results: ReadonlyMap<GateId, GateResult>): GateId[] {
  return [...results.values()].filter(({ verdict }) => verdict !== 'PASS').map(({ gate }) => gate)
}

async function allPass(phase: PhaseId): Promise<Map<GateId, GateResult>> {
  return waitUntil(`every gate of ${phase} is PASS`, async () => {
    const results = await judge(phase)
    return red(results).length === 0
      ? results
      : Promise.reject(new Error(JSON.stringify(verdicts(results), undefined, 1)))
  })
}

async function priced(ids: readonly string[]): Promise<void> {
  await waitUntil('all are priced in the Shop', async () => {
    const rows = await withoutTriggers<{ status: string }>(
      estate,
      'shop',
      `SELECT status FROM orders WHERE id = ANY ($1::uuid[]) AND status = 'PRICE_CALCULATED'`,
      ids,
    )
    return rows.length === ids.length
      ? true
      : Promise.reject(new Error(`${rows.length} of ${ids.length}`))
  })
}

let legacy: string[] = []
let direct: string[] = []

test.serial('nothing is evidence yet: too few samples, and the counts are told', async (t) => {
  const results = await judge()
  t.deepEqual(red(results), ['conservation', 'duplicates', 'parity'])
  for (const gate of ['conservation', 'duplicates', 'parity'] as const)
    t.is(results.get(gate)?.verdict, 'INCONCLUSIVE')
  t.regex(results.get('conservation')!.says, /0 legacy orders are too few/)
  // An estate that is only tried out needs no evidence.
  t.deepEqual(verdicts(await judge('orders-direct', { GATE_MINIMUM: '0' })), {
    conservation: 'PASS',
    duplicates: 'PASS',
    parity: 'PASS',
    'in-doubt': 'PASS',
    'dead-letters': 'PASS',
    pages: 'PASS',
    overhead: 'PASS',
    lag: 'PASS',
    running: 'PASS',
  })
})

test.serial(
  'a healthy estate passes both phases, and each step earns its own evidence',
  async (t) => {
    legacy = await submitOrders(estate, 25)
    await priced(legacy)
    await allPass('orders-direct')
    await allPass('statuses-direct')
    await say(0, 'gates', 'orders-direct')
    await say(0, 'advance', 'orders-direct', '--share', '50%', ...forced)
    const flipped = await judge()
    t.deepEqual(red(flipped), ['conservation', 'duplicates'])
    t.regex(flipped.get('conservation')!.says, /0 direct orders are too few/)
    await say(0, 'advance', 'orders-direct', '--share', '100%', ...forced)
    direct = await submitOrders(estate, 25)
    await priced(direct)
    const all = await allPass('orders-direct')
    t.regex(all.get('parity')!.says, /all orders are direct, so nothing new is compared/)
    t.regex(all.get('conservation')!.measured, /0 of 50 orders unexplained/)
  },
)

test.serial('an order whose job is deleted from the queue arrives all the same', async (t) => {
  const courier = estate.process('courier')
  await courier.terminate()
  const [id] = await submitOrders(estate, 1)
  const deleted = await waitUntil('its ring is in the queue', async () => {
    const tables = await withoutTriggers<{ name: string }>(
      estate,
      'doorbell',
      `SELECT format('%I.%I', table_schema, table_name) AS name FROM information_schema.columns
       WHERE column_name = 'data' AND table_schema NOT IN ('pg_catalog', 'information_schema')`,
    )
    let gone = 0
    for (const { name } of tables) {
      const rows = await withoutTriggers(
        estate,
        'doorbell',
        `DELETE FROM ${name} j WHERE to_jsonb(j)::text LIKE '%' || $1 || '%' RETURNING 1`,
        id,
      )
      gone += rows.length
    }
    return gone > 0 && gone
  })
  t.true(deleted > 0)
  await courier.restart()
  await priced([id!])
  await allPass('orders-direct')
})

test.serial('an order whose MES row is gone is named, with the last hop that saw it', async (t) => {
  const [id] = direct
  const [row] = await withoutTriggers<Record<string, unknown>>(
    estate,
    'mes',
    'DELETE FROM orders WHERE order_id = $1 RETURNING to_jsonb(orders) AS row',
    id,
  )
  const lost = await judge()
  t.deepEqual(red(lost), ['conservation'])
  const { says, orderIds, verdict } = lost.get('conservation')!
  t.is(verdict, 'FAIL')
  t.deepEqual(orderIds, [id!])
  t.regex(says, new RegExp(`${id}.*last seen by bridge crm.events .*price_calculated`))
  const told = await say(1, 'gates', 'orders-direct')
  t.regex(told, new RegExp(`FAIL conservation: 1 of \\d+ orders unexplained[^]*${id}`))
  await withoutTriggers(
    estate,
    'mes',
    'INSERT INTO orders OVERRIDING SYSTEM VALUE SELECT * FROM jsonb_populate_record(NULL::orders, $1)',
    JSON.stringify(row!['row']),
  )
  await allPass('orders-direct')
})

test.serial(
  'an order whose ledger row is gone is named as well, also when it is closed',
  async (t) => {
    const [, , id, closed] = direct
    for (const [database, column] of [
      ['shop', 'id'],
      ['mes', 'order_id'],
    ] as const)
      await withoutTriggers(
        estate,
        database,
        `UPDATE orders SET status = 'CLOSED' WHERE ${column} = $1`,
        closed,
      )
    await allPass('orders-direct')
    const rows: unknown[] = []
    for (const each of [id, closed]) {
      const [gone] = await withoutTriggers<{ row: unknown }>(
        estate,
        'ledger',
        'DELETE FROM order_ledger WHERE order_id = $1 RETURNING to_jsonb(order_ledger) AS row',
        each,
      )
      rows.push(gone!.row)
    }
    const { says, orderIds, verdict } = (await judge()).get('conservation')!
    t.is(verdict, 'FAIL')
    t.deepEqual(orderIds.toSorted(), [id!, closed!].toSorted())
    for (const each of [id, closed]) t.regex(says, new RegExp(`${each}[^;]*; last seen by bridge`))
    for (const row of rows)
      await withoutTriggers(
        estate,
        'ledger',
        'INSERT INTO order_ledger SELECT * FROM jsonb_populate_record(NULL::order_ledger, $1)',
        JSON.stringify(row),
      )
    await allPass('orders-direct')
  },
)

test.serial('what else is wrong is named by its own gate', async (t) => {
  const [a, b] = direct
  await withoutTriggers(
    estate,
    'mes',
    `INSERT INTO orders (order_id, source, status, model_key, model_sha256, model_bytes, material, quantity, price, currency)
     SELECT order_id, source, status, model_key, model_sha256, model_bytes, material, quantity, price, currency FROM orders WHERE order_id = $1`,
    a,
  )
  const doubled = await judge()
  t.deepEqual(red(doubled), ['duplicates'])
  t.deepEqual(doubled.get('duplicates')!.orderIds, [a!])
  await withoutTriggers(
    estate,
    'mes',
    'DELETE FROM orders WHERE id = (SELECT max(id) FROM orders WHERE order_id = $1)',
    a,
  )

  await withoutTriggers(estate, 'shop', 'UPDATE orders SET price = price + 1 WHERE id = $1', b)
  const mispriced = await judge('statuses-direct')
  t.deepEqual(red(mispriced), ['conservation'])
  t.deepEqual(mispriced.get('conservation')!.orderIds, [b!])
  // It is nothing that the orders' way could mend.
  t.deepEqual(red(await judge()), [])
  await withoutTriggers(estate, 'shop', 'UPDATE orders SET price = price - 1 WHERE id = $1', b)

  const parked = randomUUID()
  await withoutTriggers(
    estate,
    'ledger',
    `INSERT INTO bridge_inbox (queue, msg_key, order_id, routing_key, exchange, state, reason, body, properties, redelivered)
     VALUES ('mes.orders', '\\x01', $1, 'order.submitted', '', 'parked', 'unreadable', '', '{}', false)`,
    parked,
  )
  const dead = await judge()
  t.deepEqual(red(dead), ['dead-letters'])
  t.regex(
    dead.get('dead-letters')!.says,
    new RegExp(`parked message \\d+ of order ${parked} .*unreadable`),
  )
  await withoutTriggers(estate, 'ledger', `DELETE FROM bridge_inbox WHERE order_id = $1`, parked)
})

test.serial(
  'a MES that is down is a lag with that reason, and no order is called lost',
  async (t) => {
    estate.process('mes').kill('SIGKILL')
    const [id] = await submitOrders(estate, 1)
    await waitUntil('it is delivered to the queue', async () => {
      const rows = await withoutTriggers(
        estate,
        'ledger',
        `SELECT 1 FROM order_ledger WHERE order_id = $1 AND state = 'delivered'`,
        id,
      )
      return rows.length === 1
    })
    const down = await waitUntil('the lag is told', async () => {
      const results = await judge('orders-direct', { GATE_LAG: '1s' })
      return results.get('lag')?.verdict === 'FAIL' && results
    })
    t.regex(down.get('lag')!.says, /waits in the MES's queue for \d+ s: the MES is down/)
    t.is(down.get('conservation')!.verdict, 'PASS')
    t.is(down.get('pages')!.verdict, 'INCONCLUSIVE')
    await estate.process('mes').restart()
    await priced([id!])
    await allPass('orders-direct')
  },
)

const away = 'postgres://nobody:secret@127.0.0.1:9/none'
for (const [what, change, gates, says] of [
  [
    'the Shop DB',
    { SHOP_URL: away },
    ['conservation', 'duplicates', 'lag', 'running'],
    /the Shop DB does not answer/,
  ],
  [
    'the MES DB',
    { MES_URL: away },
    ['conservation', 'duplicates', 'lag'],
    /the MES DB does not answer/,
  ],
  [
    'the ledger',
    { LEDGER_URL: away },
    ['conservation', 'duplicates', 'parity', 'in-doubt', 'dead-letters', 'lag', 'running'],
    /the ledger does not answer/,
  ],
  [
    'the MES DB, not set',
    { MES_URL: '' },
    ['conservation', 'duplicates', 'lag'],
    /MES_URL is not set/,
  ],
  [
    'the door of the Shop',
    { SHOP_DOOR: 'http://127.0.0.1:9' },
    ['pages', 'overhead'],
    /no answer from http:\/\/127\.0\.0\.1:9\//,
  ],
  [
    'the CRM itself',
    { CRM_UPSTREAM: 'http://127.0.0.1:9' },
    ['pages', 'overhead'],
    /no answer from http:\/\/127\.0\.0\.1:9\//,
  ],
] as const) {
  test.serial(`${what} away: inconclusive by name, and the other gates are judged`, async (t) => {
    const results = await judge('orders-direct', change)
    t.deepEqual(red(results), [...gates], JSON.stringify(verdicts(results)))
    for (const gate of gates) {
      const result = results.get(gate)!
      t.is(result.verdict, 'INCONCLUSIVE', gate)
      t.regex(result.says, says)
      t.notRegex(result.says, /secret/)
    }
  })
}

test.serial('a process that is gone: its gate says which', async (t) => {
  for (const [name, gate, says] of [
    ['courier', 'running', /no courier runs/],
    ['relay', 'running', /no relay runs/],
    ['watch', 'running', /no watch runs/],
  ] as const) {
    await estate.process(name).terminate()
    const gone = await waitUntil(`${name} is missed`, async () => {
      const results = await judge()
      return results.get(gate)?.verdict === 'FAIL' && results
    })
    t.regex(gone.get(gate)!.says, says)
    await estate.process(name).restart()
  }
  await estate.process('shadow').terminate()
  // Statuses still go through CRM, and nobody compares them.
  const silent = await waitUntil('the shadow is missed', async () => {
    const results = await judge('statuses-direct')
    return results.get('parity')?.verdict === 'INCONCLUSIVE' && results
  })
  t.regex(silent.get('parity')!.says, /no shadow runs/)
  await estate.process('shadow').restart()
  await allPass('statuses-direct')
})

test.serial('a server that is frozen, not gone, is not waited for', async (t) => {
  // It takes the connection, and never says a word.
  const silent = createServer()
  await once(silent.listen(0, '127.0.0.1'), 'listening')
  const address = silent.address()
  const port = typeof address === 'object' ? address?.port : undefined
  const mute = await judge('orders-direct', {
    GATE_TIMEOUT: '500ms',
    MES_URL: `postgres://nobody@127.0.0.1:${port}/none`,
  })
  silent.close()
  t.is(mute.get('conservation')!.verdict, 'INCONCLUSIVE')
  t.regex(mute.get('conservation')!.says, /the MES DB does not answer/)

  const evidence = open({ GATE_TIMEOUT: '500ms' })
  try {
    await evidence.judge('orders-direct')
    const blocker = withClient(estate.databases.mes, async (client) => {
      await client.query('BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE')
      const results = await evidence.judge('orders-direct')
      await client.query('ROLLBACK')
      return results
    })
    const byGate = new Map((await blocker).map((each) => [each.gate, each]))
    t.is(byGate.get('conservation')!.verdict, 'INCONCLUSIVE')
    t.regex(byGate.get('conservation')!.says, /the MES DB does not answer/)
    t.is(byGate.get('in-doubt')!.verdict, 'PASS')
    const after = new Map((await evidence.judge('orders-direct')).map((each) => [each.gate, each]))
    t.is(after.get('conservation')!.verdict, 'PASS')
  } finally {
    await evidence.close()
  }
})
