import { createHash, randomUUID } from 'node:crypto'

import test from 'ava'

import { gateSources } from '../adapters/gates/gate-sources.ts'
import { judgeLag, readWaits } from '../adapters/gates/lag.ts'
import { readPartnerBooks } from '../adapters/partners/partner-books.ts'
import { partnersDrain } from '../adapters/partners/partners-drain.ts'
import { torusStl } from '../estate/sample-models.ts'
import { createLog } from '../runtime/log.ts'
import { createPool, type Pool } from '../runtime/postgres.ts'
import {
  call,
  type PartnerEstate,
  partnerKeys,
  startPartnerEstate,
  submit,
  wholeWay,
} from './partner-fixture.ts'
import { waitUntil } from './wait-until.ts'

/* A partner's order all the way: intake, ledger, MES, operators, sellers, and back to the partner. */

let world: PartnerEstate
let mes: Pool
let shop: Pool
let ledger: Pool

const pool = (url: string): Pool => createPool(url, { name: 'test', log: createLog('test') })

test.before(async () => {
  world = await startPartnerEstate({ without: ['shop', 'proxy', 'shadow'], with: wholeWay })
  mes = pool(world.estate.databases.mes)
  shop = pool(world.estate.databases.shop)
  ledger = pool(world.estate.databases.ledger)
  const { code, stderr } = await world.estate.strangler('bridge', 'insert')
  if (code !== 0) throw new Error(stderr)
})
test.after.always(async () => {
  await Promise.all([mes, shop, ledger].map((each) => each?.end()))
  await world?.stop()
})

interface Seen {
  readonly id: string
  readonly status: string
  readonly price: string | null
  readonly currency: string | null
}

async function seen(api: string, id: string): Promise<Seen> {
  const { text } = await call(`${api}/orders/${id}`, { headers: { 'x-api-key': partnerKeys.Acme } })
  return JSON.parse(text)
}

function order(externalId: string, more: { readonly comment?: string } = {}) {
  return {
    fields: Object.entries({ external_id: externalId, material: 'PLA', quantity: '2', ...more }),
    model: torusStl(200),
  }
}

async function accepted(externalId: string, key: string = partnerKeys.Acme): Promise<string> {
  const answer = await submit(world.intakeApi, key, order(externalId))
  if (answer.status !== 201) throw new Error(`${answer.status} ${answer.text}`)
  const { id }: Seen = JSON.parse(answer.text)
  return id
}

async function step(id: string, name: string, status: string): Promise<void> {
  const { estate } = world
  await fetch(`${estate.legacy.mes}/orders/${id}/${name}`, {
    method: 'POST',
    body: new URLSearchParams({ operator: 'Ann' }),
    redirect: 'manual',
  })
  await waitUntil(`the partner sees ${status}`, async () => {
    const { status: now } = await seen(world.intakeApi, id)
    return now === status
  })
}

async function toClosed(id: string): Promise<void> {
  const { estate } = world
  await waitUntil(
    'the price is there',
    async () => (await seen(world.intakeApi, id)).price !== null,
  )
  await waitUntil('CRM has the price', async () => {
    const { rows } = await shop.query(
      `SELECT FROM public.orders WHERE id = $1 AND status = 'PRICE_CALCULATED'`,
      [id],
    )
    return rows.length === 1
  })
  await fetch(`${estate.legacy.crm}/api/orders/${id}/approve`, { method: 'POST' })
  await waitUntil(
    'it is approved',
    async () => (await seen(world.intakeApi, id)).status === 'MANUFACTURING_APPROVED',
  )
  await waitUntil('the MES may begin', async () => {
    const { rows } = await mes.query(
      `SELECT FROM orders WHERE order_id = $1 AND status = 'MANUFACTURING_APPROVED'`,
      [id],
    )
    return rows.length === 1
  })
  await step(id, 'take', 'MANUFACTURING_STARTED')
  await step(id, 'complete', 'MANUFACTURING_COMPLETED')
  await step(id, 'pack', 'PACKAGING')
  await step(id, 'ship', 'SHIPPED')
  await waitUntil('CRM has it shipped', async () => {
    const { rows } = await shop.query(
      `SELECT FROM public.orders WHERE id = $1 AND status = 'SHIPPED'`,
      [id],
    )
    return rows.length === 1
  })
  await fetch(`${estate.legacy.crm}/api/orders/${id}/close`, { method: 'POST' })
  await waitUntil(
    'the partner sees it closed',
    async () => (await seen(world.intakeApi, id)).status === 'CLOSED',
  )
}

test.serial(
  'an order that the intake accepts goes its whole way, and is one order everywhere',
  async (t) => {
    await world.route(10_000)
    const externalId = randomUUID()
    const id = await accepted(externalId)
    await toClosed(id)
    const inMes = await mes.query(
      'SELECT partner, external_id, source, price FROM orders WHERE order_id = $1',
      [id],
    )
    t.like(inMes.rows, [{ partner: 'Acme', external_id: externalId, source: 'partner' }])
    t.is(inMes.rows.length, 1)
    const inShop = await shop.query(
      'SELECT source, external_id, status, price FROM public.orders WHERE external_id = $1',
      [externalId],
    )
    t.like(inShop.rows, [{ source: 'partner', status: 'CLOSED' }])
    t.is(inShop.rows.length, 1)
    const inLedger = await ledger.query(
      'SELECT origin, source_ref, path, state FROM order_ledger WHERE order_id = $1',
      [id],
    )
    t.deepEqual(inLedger.rows, [
      { origin: 'partner:Acme', source_ref: externalId, path: 'direct', state: 'delivered' },
    ])
    const [here, there] = await Promise.all([seen(world.intakeApi, id), seen(world.mesApi, id)])
    t.is(here.price, there.price)
    t.like(here, { status: there.status, currency: there.currency })
  },
)

test.serial('an order that the intake forwards goes its whole way as well', async (t) => {
  await world.route(0)
  const externalId = randomUUID()
  const id = await accepted(externalId)
  await toClosed(id)
  const inMes = await mes.query('SELECT FROM orders WHERE external_id = $1', [externalId])
  t.is(inMes.rows.length, 1)
  const inLedger = await ledger.query('SELECT path, state FROM order_ledger WHERE order_id = $1', [
    id,
  ])
  t.deepEqual(inLedger.rows, [{ path: 'legacy', state: 'delivered' }])
  // CRM's decisions have no time of the MES in them.
  const [here, there] = await Promise.all([seen(world.intakeApi, id), seen(world.mesApi, id)])
  t.deepEqual({ ...here, updated_at: '' }, { ...there, updated_at: '' })
})

test.serial('sent five times over both ways, it is one order with one answer', async (t) => {
  for (const first of [0, 10_000]) {
    const externalId = randomUUID()
    const answers = []
    for (const n of [0, 1, 2, 3, 4]) {
      await world.route(n % 2 === 0 ? first : 10_000 - first)
      answers.push(await submit(world.intakeApi, partnerKeys.Acme, order(externalId)))
    }
    t.deepEqual(new Set(answers.map(({ status, text }) => `${status} ${text}`)).size, 1)
    t.deepEqual(
      answers.map(({ headers }) => headers.get('idempotent-replay')),
      [null, 'true', 'true', 'true', 'true'],
    )
    const other = await submit(
      world.intakeApi,
      partnerKeys.Acme,
      order(externalId, { comment: 'other' }),
    )
    t.is(other.status, 422)
    t.is((await submit(world.intakeApi, partnerKeys.Bolt, order(externalId))).status, 201)
    const { id }: Seen = JSON.parse(answers[0]!.text)
    await waitUntil('the MES has it', async () =>
      (await mes.query('SELECT FROM orders WHERE order_id = $1', [id])).rows.length > 0
        ? true
        : undefined,
    )
    const { rows } = await mes.query(
      `SELECT FROM orders WHERE external_id = $1 AND partner = 'Acme'`,
      [externalId],
    )
    t.is(rows.length, 1)
  }
})

/** A message about an order, as a bridge has stored it; the feed hears of it when it is told. */
async function bridged(key: string, orderId: string, body: object): Promise<string> {
  const { rows } = await ledger.query<{ id: string }>(
    `INSERT INTO bridge_inbox (queue, msg_key, order_id, routing_key, exchange, state, body, properties, redelivered)
     VALUES ('crm.events', $1, $2, $3, '', 'forwarded', $4, '{}', false) RETURNING id`,
    [
      createHash('sha256').update(randomUUID()).digest(),
      orderId,
      key,
      Buffer.from(JSON.stringify({ orderId, ...body })),
    ],
  )
  return rows[0]!.id
}

async function told(id: string): Promise<void> {
  await ledger.query(
    'INSERT INTO partner_event (id, order_id) SELECT id, order_id FROM bridge_inbox WHERE id = $1',
    [id],
  )
}

async function applied(id: string): Promise<void> {
  await waitUntil('the feed has applied it', async () => {
    const { rows } = await ledger.query(
      'SELECT FROM partner_event WHERE id = $1 AND applied_at IS NOT NULL',
      [id],
    )
    return rows.length === 1
  })
}

/** An order of the intake that nobody but the intake knows. */
async function storedOnly(): Promise<string> {
  const id = randomUUID()
  await world.intake.query(
    `INSERT INTO partner_order (id, partner, external_id, material, quantity, model_key, model_sha256, model_bytes, born, path_epoch,
       path_reason, status, created_at, updated_at)
     VALUES ($1, 'Acme', $1::uuid::text, 'PLA', 1, 'm', 'm', 1, 'intake', 1, '{}', 'SUBMITTED', now() - interval '1 hour', now() - interval '1 hour')`,
    [id],
  )
  return id
}

test.serial('a price that a bridge tells after something newer is not lost', async (t) => {
  const id = await storedOnly()
  const price = await bridged('order.price_calculated', id, { price: 12.5, currency: 'EUR' })
  const approved = await bridged('order.approved', id, {})
  await told(approved)
  await applied(approved)
  await told(price)
  await applied(price)
  t.like(await seen(world.intakeApi, id), {
    status: 'MANUFACTURING_APPROVED',
    price: '12.50',
    currency: 'EUR',
  })
})

test.serial('what no database takes stops nothing that comes behind it', async (t) => {
  const id = await storedOnly()
  const made = {
    source: 'partner',
    partner: 'Acme',
    externalId: 'x',
    material: 'PLA',
    quantity: 1,
    comment: null,
    model: { key: 'm', sha256: 'm', bytes: 1 },
    occurredAt: new Date().toISOString(),
  }
  const bad: readonly [string, object][] = [
    [randomUUID(), { comment: 'a\0b' }],
    [randomUUID(), { quantity: 1e12 }],
    [randomUUID(), { quantity: 1.5 }],
    [randomUUID(), { occurredAt: '-200000-01-01T00:00:00Z' }],
    ['no-uuid', {}],
  ]
  for (const [orderId, wrong] of bad)
    await told(await bridged('order.created', orderId, { ...made, ...wrong }))
  await told(await bridged('order.status_changed', 'no-uuid', { status: 'PACKAGING' }))
  const last = await bridged('order.status_changed', id, { status: 'PACKAGING' })
  await told(last)
  await applied(last)
  t.is((await seen(world.intakeApi, id)).status, 'PACKAGING')
})

test.serial(
  'a flood leaves at the pace, partners in turn, and says so where somebody looks',
  async (t) => {
    const { estate, intake } = world
    await world.route(10_000)
    await estate.process('intake-relay').terminate()
    const ids: string[] = []
    for (let n = 0; n < 5; n += 1) ids.push(await accepted(`flood-${n}`))
    const inMes = async (): Promise<number> => {
      const { rows } = await mes.query<{ orders: number }>(
        'SELECT count(*)::int AS orders FROM orders WHERE order_id = ANY($1::uuid[])',
        [ids],
      )
      return rows[0]!.orders
    }
    const relay = await estate.launch('intake-relay', { PARTNER_ORDERS_PER_MINUTE: '1' })
    await waitUntil('the first of the flood in the MES', async () => (await inMes()) > 0)
    const { rows: waiting } = await intake.query<{ id: string }>(
      'SELECT order_id AS id FROM outbox o WHERE relayed_at IS NULL ORDER BY o.id',
    )
    t.deepEqual(
      waiting.map(({ id }) => id),
      ids.slice(1),
    )

    await intake.query(
      `UPDATE partner_order SET created_at = created_at - interval '1 hour' WHERE id = ANY($1::uuid[])`,
      [ids],
    )
    await intake.query(
      `UPDATE outbox SET at = at - interval '1 hour' WHERE order_id = ANY($1::uuid[])`,
      [ids],
    )
    const late = async () => {
      const sources = gateSources({ ...estate.databases }, 10_000, createLog('test'))
      try {
        const waits = await readWaits(sources, 'partner-intake', 600_000)
        const { differences } = await readPartnerBooks(
          { ...sources },
          { windowMs: 86_400_000, watermarkMs: 600_000 },
        )
        return {
          lag: judgeLag(waits),
          books: differences.filter(({ orderId }) => ids.includes(orderId)).map(({ says }) => says),
        }
      } finally {
        await sources.close()
      }
    }
    const asked = await estate.strangler('order', ids[4]!)
    t.is(asked.code, 2)
    t.regex(
      asked.stderr,
      /is not in the ledger yet; the intake accepted it at \S+, and 3 orders of its partner go before it/u,
    )
    const behind = await late()
    t.is(behind.lag.verdict, 'FAIL')
    t.regex(
      behind.lag.says,
      /waits in the outbox of the intake for 36\d\d s: 4 wait there for their turn, and its relay took one \d/u,
    )
    t.deepEqual(behind.books, [], 'each waits for its turn')
    await intake.query(`UPDATE outbox SET relayed_at = relayed_at - interval '1 hour'`)
    const stuck = 'it is in the outbox of the intake: is its relay running?'
    t.deepEqual((await late()).books, [stuck, stuck, stuck, stuck])

    await relay.terminate()
    const ofBolt = await accepted('no flood', partnerKeys.Bolt)
    const oneASecond = await estate.launch('intake-relay', { PARTNER_ORDERS_PER_MINUTE: '60' })
    await waitUntil('the whole flood in the MES', async () => (await inMes()) === ids.length)
    const { rows: went } = await intake.query<{ id: string }>(
      'SELECT order_id AS id FROM outbox WHERE order_id = ANY($1::uuid[]) ORDER BY relayed_at',
      [[...ids, ofBolt]],
    )
    t.deepEqual(
      went.map(({ id }) => id),
      [ids[0], ids[1], ofBolt, ...ids.slice(2)],
      'a partner with one order is not behind all of another’s',
    )
    await oneASecond.terminate()
    await estate.launch('intake-relay')
  },
)

test.serial('a rollback looks at the orders of a released partner as well', async (t) => {
  const id = await storedOnly()
  await world.intake.query(
    `INSERT INTO outbox (order_id, partner, at, relayed_at) VALUES ($1, 'Acme', now() - interval '1 hour', now() - interval '1 hour')`,
    [id],
  )
  await world.intake.query(`UPDATE partner SET route = 'mes' WHERE id = 'Acme'`)
  const found = await partnersDrain({ ledger, shop, mes, intake: world.intake }).verify()
  await world.intake.query(`UPDATE partner SET route = 'intake' WHERE id = 'Acme'`)
  t.true(
    found.some((line) => line.includes(id)),
    found.join('\n'),
  )
})
