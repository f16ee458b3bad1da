import { randomUUID } from 'node:crypto'

import test from 'ava'
import pg from 'pg'

import type { Estate } from '../estate/estate.ts'
import { withClient } from '../estate/postgres-server.ts'
import { submittedOf } from './customers.ts'
import { expectEachOnce, moveShare, reaches, says, startDirectWay } from './direct-way-fixture.ts'
import { storeModel, submitOrders } from './shop-orders-by-sql.ts'
import { waitUntil } from './wait-until.ts'

/**
 * Other sessions get in the way of the toolkit's own: they lock its rows, in the wrong order, and for long; its own sessions are
 * killed for sitting idle. Statements are repeated, orders are not.
 */
let estate: Estate

test.before(async () => {
  estate = await startDirectWay()
  await moveShare(estate, '100%')
})
test.after.always(() => estate?.stop())

test.serial(
  'sessions idle in a transaction are killed: the relay repeats, an open submit never was',
  async (t) => {
    const relayRole = new URL(estate.operatorEnvironment['LEDGER_URL']!).username.replace(
      'operator',
      'relay',
    )
    const admin = await connected(estate.databases.ledger)
    const customer = await connected(
      estate.postgres.urlFor(databaseOf(estate.databases.shop), 'shop'),
    )
    try {
      for (const role of [relayRole, 'shop'])
        await admin.query(`ALTER ROLE ${role} SET idle_in_transaction_session_timeout = '300ms'`)
      await estate.process('relay').terminate()
      await estate.launch('relay')
      const model = await storeModel(estate)
      const open = randomUUID()
      await customer.query(`SET idle_in_transaction_session_timeout = '300ms'`)
      const {
        rows: [session],
      } = await customer.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
      const customerPid = session!.pid
      await customer.query('BEGIN')
      await customer.query(submittedAtOnce, [open, model.key, model.sha256, model.bytes])

      // The relay's Shop transaction stands idle while its insert waits for the ledger.
      await admin.query('BEGIN')
      await admin.query('LOCK TABLE order_ledger IN EXCLUSIVE MODE')
      const failed = says(estate, 'relay', 'round_failed')
      await submitOrders(estate, 20)
      const [idle] = await waitUntil('the relay idle in its transaction', () =>
        sessions(`application_name = 'strangler-relay' AND state = 'idle in transaction'`),
      )
      await waitUntil(
        'both killed',
        async () => (await sessions(`pid IN (${idle}, ${customerPid})`)) === undefined,
      )
      await admin.query('COMMIT')
      t.regex(await failed, /idle-in-transaction|not queryable|terminat/i)
      await expectEachOnce(t, estate, await submittedOf(estate))
      t.false((await submittedOf(estate)).includes(open), 'the killed submit was rolled back')
    } finally {
      for (const role of [relayRole, 'shop'])
        await admin.query(`ALTER ROLE ${role} RESET idle_in_transaction_session_timeout`)
      await admin.end()
      await customer.end().catch(() => undefined)
      await estate.process('relay').terminate()
      await estate.launch('relay')
    }
  },
)

test.serial('a courier that is the victim of a deadlock marks its orders again', async (t) => {
  const rival = await connected(estate.databases.ledger)
  try {
    await rival.query(`SET deadlock_timeout = '60s'`)
    await estate.process('courier').terminate()
    await estate.launch('courier', {
      FAILPOINTS: 'courier.confirmed=block:3000@5',
      KILL_PERIOD_MS: '60000',
    })
    const reached = reaches(estate, 'courier', 'courier.confirmed')
    const victim = says(estate, 'courier', 'settlement_failed')
    await submitOrders(estate, 30, 1)
    await reached
    await rival.query('BEGIN')
    const last = await rival.query<{ order_id: string }>(
      `SELECT order_id FROM order_ledger WHERE state = 'sending' ORDER BY ctid DESC LIMIT 1 FOR UPDATE`,
    )
    t.is(last.rowCount, 1, 'the courier holds orders that the queue has')
    await waitUntil('the courier waits for the rival', () =>
      sessions(`application_name = 'strangler-courier' AND wait_event_type = 'Lock'`),
    )
    await rival.query(`SELECT FROM order_ledger WHERE state = 'sending' ORDER BY ctid FOR UPDATE`)
    t.regex(await victim, /deadlock detected/)
    await rival.query('COMMIT')
    await expectEachOnce(t, estate, await submittedOf(estate))
    t.is(await withClient(estate.databases.ledger, doubted), 0, 'a failed mark is no doubt')
  } finally {
    await rival.end()
    await estate.process('courier').terminate()
    await estate.launch('courier')
  }
})

test.serial('a relay that is the victim of a deadlock accepts its orders again', async (t) => {
  const rival = await connected(estate.databases.ledger)
  const shop = await connected(estate.postgres.urlFor(databaseOf(estate.databases.shop), 'shop'))
  try {
    await rival.query(`SET deadlock_timeout = '60s'`)
    const model = await storeModel(estate)
    const first = randomUUID()
    const second = randomUUID()
    await rival.query('BEGIN')
    await rival.query(heldRow, [second])
    const victim = says(estate, 'relay', 'round_failed')
    await shop.query('BEGIN')
    for (const id of [first, second])
      await shop.query(submittedAtOnce, [id, model.key, model.sha256, model.bytes])
    await shop.query('COMMIT')
    await waitUntil('the relay waits for the rival', () =>
      sessions(`application_name = 'strangler-relay' AND wait_event_type = 'Lock'`),
    )
    await rival.query(heldRow, [first])
    t.regex(await victim, /deadlock detected/)
    await rival.query('ROLLBACK')
    await expectEachOnce(t, estate, await submittedOf(estate))
  } finally {
    await rival.end()
    await shop.end()
  }
})

test.serial('a session that sits on outbox rows holds up those orders and no others', async (t) => {
  const sitter = await connected(estate.databases.shop)
  try {
    await estate.process('relay').terminate()
    const ids = await submitOrders(estate, 60)
    await sitter.query('BEGIN')
    const { rows } = await sitter.query<{ id: string }>(
      `SELECT order_id::text AS id FROM strangler.outbox WHERE relayed_at IS NULL ORDER BY id LIMIT 30 FOR UPDATE`,
    )
    const held = new Set(rows.map((row) => row.id))
    t.is(held.size, 30)
    await estate.launch('relay')
    const free = ids.filter((id) => !held.has(id))
    await waitUntil('the others in the ledger', async () => {
      const known = await inLedger(ids)
      return free.every((id) => known.has(id))
    })
    const known = await inLedger(ids)
    t.deepEqual(
      [...held].filter((id) => known.has(id)),
      [],
    )
    await sitter.query('ROLLBACK')
    await expectEachOnce(t, estate, await submittedOf(estate))
  } finally {
    await sitter.end()
  }
})

const submittedAtOnce = `
  INSERT INTO orders (id, status, material, quantity, model_key, model_sha256, model_bytes)
  VALUES ($1, 'SUBMITTED', 'PLA', 1, $2, $3, $4)`

const heldRow = `
  INSERT INTO order_ledger (order_id, origin, source_ref, path, path_epoch, path_reason, state, routing_key, body, body_sha256, submitted_at)
  VALUES ($1::text, 'shop', $1::text, 'direct', 0, '{}', 'accepted', 'order.submitted', '', '', now())`

/** The pids of the server's sessions that are so; a transaction would see them as they were when it first looked. */
async function sessions(so: string): Promise<number[] | undefined> {
  return withClient(estate.databases.ledger, async (client) => {
    const { rows } = await client.query<{ pid: number }>(
      `SELECT pid FROM pg_stat_activity WHERE ${so}`,
    )
    return rows.length === 0 ? undefined : rows.map((row) => row.pid)
  })
}

async function doubted(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    'SELECT count(*)::int AS count FROM order_ledger WHERE doubt_at IS NOT NULL',
  )
  return rows[0]!.count
}

async function inLedger(ids: readonly string[]): Promise<Set<string>> {
  return withClient(estate.databases.ledger, async (client) => {
    const { rows } = await client.query<{ order_id: string }>(
      'SELECT order_id FROM order_ledger WHERE order_id = ANY($1::text[])',
      [ids],
    )
    return new Set(rows.map((row) => row.order_id))
  })
}

async function connected(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url })
  // Some of these are cut on purpose; the next statement fails, and that is where it is heard.
  client.on('error', () => undefined)
  await client.connect()
  return client
}

function databaseOf(url: string): string {
  return new URL(url).pathname.slice(1)
}
