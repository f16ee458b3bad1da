import { randomUUID } from 'node:crypto'

import test from 'ava'
import type pg from 'pg'

import { type Estate, startEstate } from '../estate/estate.ts'
import { withClient } from '../estate/postgres-server.ts'
import { waitUntil } from './wait-until.ts'

/**
 * CRM has messages in hand when an order's statuses go past it, and writes them whenever it comes to it: the price of yesterday
 * over the one of today. Here that CRM is the real one, and the real applier writes what the MES says.
 */
let estate: Estate
let lastEvent = 0

test.before(async () => {
  estate = await startEstate({
    without: ['shop', 'mes', 'proxy', 'bridge', 'relay', 'courier', 'watch', 'shadow'],
    settings: { applier: { QUIET_MS: '0' } },
  })
})
test.after.always(() => estate?.stop())

interface Late {
  readonly col: string
  readonly old: string
  readonly new: string
  readonly kept: boolean
  readonly role: string
  readonly app: string
}

const statusesOfMes = [
  'PRICE_CALCULATED',
  'MANUFACTURING_STARTED',
  'MANUFACTURING_COMPLETED',
  'PACKAGING',
  'SHIPPED',
]

async function newOrders(count: number): Promise<string[]> {
  const ids = Array.from({ length: count }, () => randomUUID())
  await withClient(estate.databases.shop, (client) =>
    client.query(
      `INSERT INTO orders (id, source, status, material, quantity, crm_sent_at)
       SELECT id, 'partner', 'SUBMITTED', 'PLA', 1, now() FROM unnest($1::uuid[]) AS o(id)`,
      [ids],
    ),
  )
  return ids
}

/** What the bridge diverts. */
async function tell(orderIds: readonly string[], status: string, price?: string): Promise<void> {
  const from = lastEvent
  lastEvent += orderIds.length
  await withClient(estate.databases.ledger, (client) =>
    client.query(
      `INSERT INTO status_inbox (id, order_id, status, price, currency, received_at)
       SELECT $1 + o.n, o.id, $3, $4, CASE WHEN $4::text IS NOT NULL THEN 'EUR' END, clock_timestamp()
       FROM unnest($2::text[]) WITH ORDINALITY AS o(id, n)`,
      [from, orderIds, status, price ?? null],
    ),
  )
}

async function rowOf(orderId: string): Promise<Record<string, unknown>> {
  const { rows } = await withClient(estate.databases.shop, (client) =>
    client.query<Record<string, unknown>>('SELECT * FROM orders WHERE id = $1', [orderId]),
  )
  return rows[0]!
}

function reached(orderId: string, status: string): Promise<unknown> {
  return waitUntil(
    `${orderId} is ${status}`,
    async () => (await rowOf(orderId))['status'] === status,
  )
}

function fenced(orderIds: readonly string[]): Promise<unknown> {
  return waitUntil('the fence stands', async () => {
    const { rows } = await withClient(estate.databases.shop, (client) =>
      client.query('SELECT FROM strangler.order_fence WHERE order_id = ANY($1::uuid[])', [
        orderIds,
      ]),
    )
    return rows.length === orderIds.length
  })
}

async function lateWrites(orderId: string): Promise<Late[]> {
  const { rows } = await withClient(estate.databases.shop, (client) =>
    client.query<Late>(
      `SELECT col, old, new, kept, role::text, app FROM strangler.late_writes WHERE order_id = $1 ORDER BY id`,
      [orderId],
    ),
  )
  return rows
}

function asCrm<Result>(work: (client: pg.Client) => Promise<Result>): Promise<Result> {
  return withClient(estate.postgres.urlFor('shop', 'crm'), work)
}

/** CRM's own statements. */
function writeStatus(client: pg.Client, orderId: string, status: string) {
  return client.query('UPDATE orders SET status = $2, updated_at = now() WHERE id = $1', [
    orderId,
    status,
  ])
}

function writePrice(client: pg.Client, orderId: string, price: string) {
  return client.query(
    `UPDATE orders SET price = $2, currency = 'EUR', status = 'PRICE_CALCULATED', updated_at = now() WHERE id = $1`,
    [orderId, price],
  )
}

async function decide(orderId: string, verb: 'approve' | 'close'): Promise<void> {
  const response = await fetch(`${estate.legacy.crm}/api/orders/${orderId}/${verb}`, {
    method: 'POST',
  })
  if (!response.ok) throw new Error(`${verb}: ${response.status} ${await response.text()}`)
}

test.serial('no late write: the report says so, and so does its exit code', async (t) => {
  const { code, stdout } = await estate.strangler('late-writes')
  t.is(code, 0)
  t.is(stdout.trim(), 'no late write')
})

test.serial(
  'CRM approves and closes; its five stale statuses and its stale price change nothing, are recorded, and are no error to it',
  async (t) => {
    const [id] = await newOrders(1)
    await tell([id!], 'PRICE_CALCULATED', '12.30')
    await reached(id!, 'PRICE_CALCULATED')
    await decide(id!, 'approve')
    for (const status of statusesOfMes.slice(1)) await tell([id!], status)
    await reached(id!, 'SHIPPED')
    await decide(id!, 'close')
    t.deepEqual(await lateWrites(id!), [], "neither the applier's writes nor CRM's own are late")

    const before = await rowOf(id!)
    t.is(before['status'], 'CLOSED')
    t.is(before['price'], '12.30')
    await asCrm(async (client) => {
      t.is((await writePrice(client, id!, '1.00')).rowCount, 1)
      for (const status of statusesOfMes.slice(1))
        t.is((await writeStatus(client, id!, status)).rowCount, 1)
    })
    t.deepEqual(await rowOf(id!), before)
    const late = await lateWrites(id!)
    t.deepEqual(
      late.map(({ col, old, new: written, kept, role }) => [col, old, written, kept, role]),
      [
        ['status', 'CLOSED', 'PRICE_CALCULATED', false, 'crm'],
        ['price', '12.30 EUR', '1.00 EUR', false, 'crm'],
        ...statusesOfMes.slice(1).map((status) => ['status', 'CLOSED', status, false, 'crm']),
      ],
    )

    // The same by CRM itself, from its queue.
    const crm: string[] = []
    const stop = estate.process('crm').onLine((line) => crm.push(line))
    await withClient(estate.databases.broker, (client) =>
      client.query(
        `INSERT INTO amq.message (queue, exchange, routing_key, body, properties)
         SELECT 'crm.events', 'mes.events', 'order.status_changed',
           convert_to(jsonb_build_object('orderId', $1::text, 'status', s)::text, 'UTF8'), '{}' FROM unnest($2::text[]) AS s`,
        [id, statusesOfMes],
      ),
    )
    await waitUntil('CRM has written', async () => (await lateWrites(id!)).length === 11)
    await waitUntil('CRM has acknowledged', async () => {
      const { rows } = await withClient(estate.databases.broker, (client) =>
        client.query(`SELECT FROM amq.message WHERE queue = 'crm.events'`),
      )
      return rows.length === 0
    })
    stop()
    t.deepEqual(crm, [])
    t.deepEqual(await rowOf(id!), before)
    t.true((await lateWrites(id!)).slice(6).every(({ app, kept }) => app === 'crm' && !kept))
  },
)

test.serial(
  'a transaction that CRM opened before the fence stood, and read the order in, changes nothing',
  async (t) => {
    const [id] = await newOrders(1)
    await asCrm(async (client) => {
      await client.query('BEGIN')
      await client.query('SELECT pg_current_xact_id(), status FROM orders WHERE id = $1', [id])
      await tell([id!], 'PRICE_CALCULATED', '12.30')
      await reached(id!, 'PRICE_CALCULATED')
      t.is((await writePrice(client, id!, '1.00')).rowCount, 1)
      t.is((await writeStatus(client, id!, 'SHIPPED')).rowCount, 1)
      await client.query('COMMIT')
    })
    const row = await rowOf(id!)
    t.deepEqual([row['status'], row['price']], ['PRICE_CALCULATED', '12.30'])
    t.is((await lateWrites(id!)).length, 2)
  },
)

test.serial(
  'a write of CRM that waits for the very row lock under which the fence is raised changes nothing',
  async (t) => {
    const [id] = await newOrders(1)
    await estate.process('applier').terminate()
    const applier = await estate.launch('applier', { FAILPOINTS: 'applier.updated=stop' })
    const frozen = new Promise<void>((resolve) => {
      const stop = applier.onLine((line) => {
        if (!line.includes('failpoint applier.updated')) return
        stop()
        resolve()
      })
    })
    await tell([id!], 'PRICE_CALCULATED', '12.30')
    await frozen
    await asCrm(async (client) => {
      const writing = writePrice(client, id!, '1.00')
      await waitUntil('CRM waits for the row', async () => {
        const { rows } = await withClient(estate.databases.shop, (other) =>
          other.query(
            `SELECT FROM pg_stat_activity WHERE usename = 'crm' AND wait_event_type = 'Lock'`,
          ),
        )
        return rows.length === 1
      })
      applier.resume()
      t.is((await writing).rowCount, 1)
    })
    const row = await rowOf(id!)
    t.deepEqual([row['status'], row['price']], ['PRICE_CALCULATED', '12.30'])
    t.deepEqual(
      (await lateWrites(id!)).map(({ col, old, new: written }) => [col, old, written]),
      [['price', '12.30 EUR', '1.00 EUR']],
    )
  },
)

test.serial('in the same moment, over and over: the price is the one of the MES', async (t) => {
  const ids = await newOrders(60)
  const storm = new AbortController()
  const crm = Promise.all(
    [0, 1, 2].map((part) =>
      asCrm(async (client) => {
        while (!storm.signal.aborted)
          for (const id of ids.filter((_, index) => index % 3 === part))
            t.is((await writePrice(client, id, '1.00')).rowCount, 1)
      }),
    ),
  )
  for (const id of ids) await tell([id], 'PRICE_CALCULATED', '12.30')
  await fenced(ids)
  storm.abort()
  await crm
  const { rows } = await withClient(estate.databases.shop, (client) =>
    client.query('SELECT DISTINCT status, price FROM orders WHERE id = ANY($1::uuid[])', [ids]),
  )
  t.deepEqual(rows, [{ status: 'PRICE_CALCULATED', price: '12.30' }])
})

test.serial('a login that is not CRM gets through, and is told apart', async (t) => {
  const [id] = await newOrders(1)
  await tell([id!], 'PRICE_CALCULATED', '12.30')
  await reached(id!, 'PRICE_CALCULATED')
  await withClient(estate.postgres.urlFor('shop', 'shop'), async (client) => {
    await client.query(`SET application_name = 'month-end'`)
    t.is((await writeStatus(client, id!, 'PACKAGING')).rowCount, 1)
    t.is((await client.query('UPDATE orders SET price = 9 WHERE id = $1', [id])).rowCount, 1)
  })
  const row = await rowOf(id!)
  t.deepEqual([row['status'], row['price']], ['PACKAGING', '9.00'])
  const late = { kept: true, role: 'shop', app: 'month-end' }
  t.deepEqual(await lateWrites(id!), [
    { col: 'status', old: 'PRICE_CALCULATED', new: 'PACKAGING', ...late },
    { col: 'price', old: '12.30 EUR', new: '9.00 EUR', ...late },
  ])

  const people = await estate.strangler('late-writes')
  t.is(people.code, 1)
  t.regex(people.stdout, /late writes stopped at the fence, 2 went through/)
  t.regex(people.stdout, /not in strangler\.fenced_writer/)
  const machine = await estate.strangler('late-writes', '--json', '--since', '1h')
  t.is(machine.code, 1)
  const said: unknown = JSON.parse(machine.stdout)
  t.like(said, {
    wentThrough: 2,
    writes: { 0: { orderId: id, column: 'price', old: '12.30 EUR', new: '9.00 EUR', kept: true } },
  })
  t.is((await estate.strangler('late-writes', '--since', '1ms')).code, 0)
  t.is((await estate.strangler('late-writes', '--since', 'yesterday')).code, 2)
})
