import { randomUUID } from 'node:crypto'

import test from 'ava'

import type { ParityReport } from '../delivery/parity-report.ts'
import { type Estate, startEstate } from '../estate/estate.ts'
import { withClient } from '../estate/postgres-server.ts'
import { submitOrders } from './shop-orders-by-sql.ts'
import { waitUntil } from './wait-until.ts'

/**
 * The shadow beside real bridge, CRM and MES. What a person of the MES would do by page is published by SQL into the exchange
 * of the MES, so that thousands of messages take seconds.
 */
let estate: Estate
let first: string[] = []

interface Said extends ParityReport {
  readonly verdict: string
  readonly waiting: { readonly messages: number }
}

interface Event {
  readonly orderId: string
  readonly key: 'order.price_calculated' | 'order.status_changed'
  readonly body: string
}

const work = ['MANUFACTURING_STARTED', 'MANUFACTURING_COMPLETED', 'PACKAGING', 'SHIPPED']
const phases = ['orders-direct', 'statuses-direct'] as const

test.before(async () => {
  estate = await startEstate({
    without: ['shop', 'proxy', 'courier', 'watch', 'applier'],
    settings: { mes: { MES_PRICE_US_PER_TRIANGLE: '0' } },
  })
  const inserted = await estate.strangler('bridge', 'insert')
  if (inserted.code !== 0) throw new Error(inserted.stderr)
})
test.after.always(() => estate?.stop())

function moved(orderId: string, status: string, second = 1): Event {
  const occurredAt = new Date(Date.UTC(2026, 0, 2, 3, 4, second)).toISOString()
  const body = JSON.stringify({ orderId, source: 'shop', status, occurredAt })
  return { orderId, key: 'order.status_changed', body }
}

/** As the MES writes it: the price is a number with two decimals. */
function priced(orderId: string, price: string): Event {
  const head = moved(orderId, 'PRICE_CALCULATED').body.slice(0, -1)
  const body = `${head},"price":${price},"currency":"EUR"}`
  return { orderId, key: 'order.price_calculated', body }
}

async function publish(events: readonly Event[]): Promise<void> {
  await withClient(estate.databases.broker, (client) =>
    client.query('SELECT amq.publish_batch($1::text[], $2::text[], $3::bytea[], $4::jsonb[])', [
      events.map(() => 'mes.events'),
      events.map(({ key }) => key),
      events.map(({ body }) => Buffer.from(body)),
      events.map(() => '{"contentType": "application/json", "headers": {"x-sender": "mes"}}'),
    ]),
  )
}

/** Straight into CRM's queue: what the broker delivers again does not pass the bridge. */
async function redeliver(events: readonly Event[]): Promise<void> {
  await withClient(estate.databases.broker, (client) =>
    client.query(
      `INSERT INTO amq.message (queue, exchange, routing_key, body, properties, redelivered)
       SELECT 'crm.events', 'mes.events', e.key, e.body, '{"contentType": "application/json"}', true
       FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS e(key, body, n) ORDER BY e.n`,
      [events.map(({ key }) => key), events.map(({ body }) => Buffer.from(body))],
    ),
  )
}

async function value(database: 'shop' | 'ledger' | 'broker', sql: string, ...values: unknown[]) {
  const { rows } = await withClient(estate.databases[database], (client) =>
    client.query<{ value: number }>(`SELECT (${sql})::float8 AS value`, values),
  )
  return rows[0]!.value
}

function compared(phase: string): Promise<number> {
  return value(
    'ledger',
    'SELECT coalesce(sum(compared), 0) FROM parity_count WHERE phase = $1',
    phase,
  )
}

/** CRM has nothing more to do, and every write of it is looked at. */
function quiet(): Promise<unknown> {
  return waitUntil('CRM and the shadow are through', async () => {
    const inBroker = await value('broker', 'SELECT count(*) FROM amq.message')
    const written = await value('shop', 'SELECT count(*) FROM strangler.crm_writes')
    return inBroker + written === 0
      ? true
      : Promise.reject(new Error(`${inBroker} in the broker, ${written} writes not compared`))
  })
}

async function parity(phase: string, ...more: string[]): Promise<{ code: number; said: Said }> {
  const { code, stdout, stderr } = await estate.strangler('parity', phase, '--json', ...more)
  if (stdout === '') throw new Error(stderr)
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a wrong form fails the assertions
  return { code: code ?? -1, said: JSON.parse(stdout) as Said }
}

async function parityGate(): Promise<{ verdict: string; orderIds: string[] }> {
  const { stdout } = await estate.strangler('gates', 'statuses-direct', '--json')
  const { gates } = JSON.parse(stdout)
  const { verdict, orderIds } = gates.find((each: { gate: string }) => each.gate === 'parity')
  return { verdict, orderIds: orderIds.toSorted() }
}

/** Difference by field, with the orders and values. */
function found(said: Said): Record<string, string[]> {
  return Object.fromEntries(
    said.fields.map(({ field, samples }) => [
      field,
      samples.map(({ orderId, ours, theirs }) => `${orderId}: ${ours} | ${theirs}`).toSorted(),
    ]),
  )
}

async function shadowWith(settings: Record<string, string>): Promise<void> {
  await estate.process('shadow').terminate()
  await estate.launch('shadow', settings)
}

/** A new page in the books; what is in the tables of messages stays. */
async function forget(): Promise<void> {
  await quiet()
  await withClient(estate.databases.ledger, (client) =>
    client.query('TRUNCATE parity_count, parity_difference, parity_accepted'),
  )
}

test.serial('before anything is compared nothing can be said', async (t) => {
  for (const phase of phases) {
    const { code, said } = await parity(phase)
    t.is(code, 3)
    t.is(said.verdict, 'nothing compared')
  }
  const away = await estate.stranglerWith(
    { LEDGER_URL: 'postgres://nobody@127.0.0.1:9/none' },
    'parity',
    'orders-direct',
  )
  t.is(away.code, 3)
})

test.serial(
  '200 healthy orders differ in nothing, with two shadows, one of them killed, and a CRM that is killed and gets messages again',
  async (t) => {
    const count = 200
    // A second shadow, which dies between the commit in the ledger and the deletion in the Shop DB.
    const other = estate.process('shadow')
    const mortal = await estate.launch('shadow', { FAILPOINTS: 'shadow.booked=kill@3' })
    first = await submitOrders(estate, count)
    await waitUntil(
      'the MES has priced all',
      async () => (await compared('statuses-direct')) === count,
      90_000,
    )
    const events = work.flatMap((status) => first.map((id) => moved(id, status)))
    await publish(events.slice(0, 400))
    await waitUntil(
      'CRM is in the middle',
      async () => (await compared('statuses-direct')) > count + 50,
    )
    estate.process('crm').kill('SIGKILL')
    await publish(events.slice(400))
    await other.terminate()
    await mortal.terminate()
    await shadowWith({})
    await estate.process('crm').restart()
    await waitUntil(
      'all are compared',
      async () => (await compared('statuses-direct')) === count * (1 + work.length),
      90_000,
    )
    // The MES tells again what it told, and the broker delivers to CRM again what it had.
    await publish(events.slice(0, 50))
    await redeliver(events.slice(0, 200))
    await quiet()
    t.is(await compared('orders-direct'), count)
    for (const phase of phases) {
      const { code, said } = await parity(phase)
      t.deepEqual(found(said), {})
      t.is(code, 0)
      t.is(said.compared, phase === 'orders-direct' ? count : count * (1 + work.length))
      t.is(said.waiting.messages, 0)
    }
  },
)

test.serial(
  'a price mapping that is wrong in 0.1 % of the orders is found: the field, the orders, both values',
  async (t) => {
    await forget()
    await estate.process('shadow').terminate()
    const ids = Array.from({ length: 2000 }, () => randomUUID())
    const broken = [ids[411]!, ids[1733]!].toSorted()
    await withClient(estate.databases.shop, async (client) => {
      await client.query(
        `INSERT INTO orders (id, source, status, material, quantity, crm_sent_at)
         SELECT id, 'partner', 'SUBMITTED', 'PLA', 1, now() FROM unnest($1::uuid[]) AS o(id)`,
        [ids],
      )
      // CRM's mapping, broken: its name is before the fence's, so that it is done when the fence looks.
      await client.query(
        `CREATE FUNCTION break_price() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.price := NEW.price + 0.01; RETURN NEW; END'`,
      )
      await client.query(
        `CREATE TRIGGER broken_mapping BEFORE UPDATE OF price ON orders FOR EACH ROW
         WHEN (NEW.id IN (${broken.map((id) => `'${id}'`).join(', ')})) EXECUTE FUNCTION break_price()`,
      )
    })
    await publish(ids.map((id, index) => priced(id, `${100 + index}.30`)))
    await waitUntil(
      'CRM has written all',
      async () => (await value('shop', 'SELECT count(*) FROM strangler.crm_writes')) === ids.length,
    )
    await estate.launch('shadow', { SHADOW_GRACE_MS: '0' })
    await quiet()
    await withClient(estate.databases.shop, (client) =>
      client.query('DROP TRIGGER broken_mapping ON orders'),
    )
    const { code, said } = await parity('statuses-direct')
    t.is(code, 1)
    t.is(said.compared, ids.length)
    t.is(said.differing, 2)
    t.is(said.differingOrders, 2)
    t.deepEqual(found(said), {
      price: broken.map((id) => {
        const whole = 100 + ids.indexOf(id)
        return `${id}: ${whole}.30 | ${whole}.31`
      }),
    })
    const people = await estate.strangler('parity', 'statuses-direct', '--since', '1h')
    t.regex(people.stdout, /price: 2 differences in 2 orders/)
    for (const id of broken) t.true(people.stdout.includes(id))
    t.deepEqual(await parityGate(), { verdict: 'FAIL', orderIds: broken })
    // It is not told again when CRM gets the same message again.
    await redeliver([priced(broken[0]!, `${100 + ids.indexOf(broken[0]!)}.31`)])
    await quiet()
    t.is((await parity('statuses-direct')).said.differing, 2)
  },
)

test.serial(
  'an acceptance hides a field until its time, and needs a field, a time to come and a reason',
  async (t) => {
    const args = ['--accept', 'price', '--until', '1d', '--why', 'rounded until the next release']
    const accepted = await estate.strangler('parity', 'statuses-direct', ...args, '--who', 'ann')
    t.is(accepted.code, 0)
    const hidden = await parity('statuses-direct')
    t.is(hidden.code, 0)
    t.is(hidden.said.differingOrders, 0)
    t.is(hidden.said.fields[0]?.accepted?.who, 'ann')
    t.is(hidden.said.fields[0]?.differences, 2)
    t.deepEqual(await parityGate(), { verdict: 'PASS', orderIds: [] })
    const people = await estate.strangler('parity', 'statuses-direct')
    t.regex(people.stdout, /accepted until 20.* by ann: "rounded until the next release"/)
    // Its time is over.
    await withClient(estate.databases.ledger, (client) =>
      client.query(`UPDATE parity_accepted SET until = clock_timestamp() - interval '1 ms'`),
    )
    t.is((await parity('statuses-direct')).code, 1)

    const refusals: readonly (readonly [readonly string[], RegExp])[] = [
      [['--accept', 'price', '--until', '2026-01-01', '--why', 'x'], /a time to come/],
      [['--accept', 'price', '--until', '0s', '--why', 'x'], /a time to come/],
      [['--accept', 'price', '--until', '2027-02-30', '--why', 'x'], /a date that exists/],
      [['--accept', 'price', '--until', 'soon', '--why', 'x'], /a duration/],
      [['--accept', 'price', '--until', '1d', '--why', ' '], /--why/],
      [['--accept', 'price', '--until', '1d'], /--why/],
      [['--accept', 'price', '--why', 'x'], /--until/],
      [['--accept', 'prise', '--until', '1d', '--why', 'x'], /did you mean price/],
      [['--why', 'x'], /only goes with --accept/],
    ]
    for (const [refused, says] of refusals) {
      const { code, stderr } = await estate.strangler('parity', 'statuses-direct', ...refused)
      t.is(code, 2, refused.join(' '))
      t.regex(stderr, says)
    }
    t.is((await estate.strangler('parity', 'crm-clients')).code, 2)
    t.is(await value('ledger', 'SELECT count(*) FROM parity_accepted'), 1)
  },
)

test.serial(
  'a write that CRM owes is a difference when its time is over, and none any more when it comes',
  async (t) => {
    await forget()
    await shadowWith({ SHADOW_GRACE_MS: '200' })
    const [id] = first
    const event = moved(id!, 'SHIPPED', 7)
    const crm = estate.process('crm')
    crm.pause()
    await publish([event])
    // CRM has lost it: it is in no queue any more.
    await waitUntil('the bridge has passed it on', () =>
      value('broker', `SELECT count(*) FROM amq.message WHERE queue = 'crm.events'`).then(Boolean),
    )
    await withClient(estate.databases.broker, (client) => client.query('DELETE FROM amq.message'))
    crm.resume()
    await waitUntil('it is missed', async () => (await compared('statuses-direct')) === 1)
    const missed = await parity('statuses-direct')
    t.is(missed.code, 1)
    t.deepEqual(found(missed.said), { row: [`${id}: SHIPPED | null`] })
    await redeliver([event])
    await quiet()
    const late = await parity('statuses-direct')
    t.is(late.code, 0)
    t.is(late.said.differing, 0)
    t.is(late.said.compared, 1)
  },
)

test.serial('a write that no message of the MES asked for is a difference', async (t) => {
  await forget()
  const [, id] = first
  const crm = estate.postgres.urlFor('shop', 'crm')
  await withClient(crm, (client) =>
    client.query(`UPDATE orders SET status = 'PRICE_CALCULATED', price = 1 WHERE id = $1`, [id]),
  )
  await quiet()
  const { code, said } = await parity('statuses-direct')
  t.is(code, 1)
  t.deepEqual(found(said), { row: [`${id}: null | PRICE_CALCULATED 1.00 EUR`] })
})

test.serial('a message to the MES that is not ours is named by its fields', async (t) => {
  await forget()
  await withClient(estate.databases.ledger, (client) =>
    client.query(
      `UPDATE bridge_inbox SET compared_at = NULL,
         body = convert_to(replace(convert_from(body, 'UTF8'), '"quantity":1', '"quantity":2'), 'UTF8')
       WHERE order_id = $1 AND routing_key = 'order.submitted'`,
      [first[2]],
    ),
  )
  await waitUntil('it is compared', async () => (await compared('orders-direct')) === 1)
  const { code, said } = await parity('orders-direct')
  t.is(code, 1)
  t.deepEqual(found(said), { quantity: [`${first[2]}: 1 | 2`] })
})
