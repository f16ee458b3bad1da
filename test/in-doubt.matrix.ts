import { randomUUID } from 'node:crypto'

import test from 'ava'
import type pg from 'pg'

import { orderSubmittedBody } from '../adapters/wire/order-submitted.ts'
import { acceptOrders } from '../delivery/accept-orders.ts'
import type { Estate } from '../estate/estate.ts'
import { withClient } from '../estate/postgres-server.ts'
import { isRunning } from '../estate/process-table.ts'
import { createLog } from '../runtime/log.ts'
import { createPool, type Pool } from '../runtime/postgres.ts'
import { customersOf, submittedOf } from './customers.ts'
import {
  expectEachOnce,
  mesRows,
  moveShare,
  reaches,
  says,
  startDirectWay,
} from './direct-way-fixture.ts'
import { storeModel, submitOrders } from './shop-orders-by-sql.ts'
import { waitUntil, waitUntilIn } from './wait-until.ts'

/**
 * The MES may or may not have the order. Only evidence moves it: never a clock, and never a second send while the first may
 * still arrive.
 */
let estate: Estate

test.before(async () => {
  estate = await startDirectWay()
  await moveShare(estate, '100%')
})
test.after.always(() => estate?.stop())

interface LedgerRow {
  readonly state: string
  readonly gen: number
  readonly attempts: number
}

function ledgerRows(ids: readonly string[]): Promise<LedgerRow[]> {
  return withClient(estate.databases.ledger, (client) => ledgerRowsIn(client, ids))
}

async function ledgerRowsIn(
  ledger: Pool | pg.Client,
  ids: readonly string[],
): Promise<LedgerRow[]> {
  const { rows } = await ledger.query<LedgerRow>(
    'SELECT state, gen, attempts FROM order_ledger WHERE order_id = ANY($1::text[]) ORDER BY order_id',
    [ids],
  )
  return rows
}

async function inState(ids: readonly string[], state: string): Promise<void> {
  const { ledger } = estate.databases
  await waitUntilIn([ledger], `${ids.length} orders ${state}`, async (inLedger) => {
    const rows = await ledgerRowsIn(inLedger, ids)
    if (rows.length === ids.length && rows.every((row) => row.state === state)) return true
    throw new Error(JSON.stringify(rows))
  })
}

/** Messages of these orders in the MES's queue, taken by it or not. */
async function waiting(ids: readonly string[]): Promise<number> {
  return withClient(estate.databases.broker, async (client) => {
    const { rows } = await client.query<{ count: number }>(
      `SELECT count(*)::int AS count FROM amq.message WHERE queue = 'mes.orders' AND properties -> 'headers' ->> 'x-strangler-order' = ANY($1::text[])`,
      [ids],
    )
    return rows[0]!.count
  })
}

async function courierWith(settings: Record<string, string>): Promise<void> {
  await estate.process('courier').terminate()
  await estate.launch('courier', settings)
}

/** Orders that a courier took in hand and died with, before or after the queue had them. */
async function orphans(count: number, diesAt: string): Promise<string[]> {
  await estate.process('relay').terminate()
  const ids = await submitOrders(estate, count)
  await courierWith({ FAILPOINTS: `${diesAt}=kill` })
  const reached = reaches(estate, 'courier', diesAt)
  await estate.launch('relay')
  await reached
  await estate.process('courier').terminate()
  return ids
}

test.serial(
  'the order waits in the queue of an MES that is down: it stays in doubt, is never sent again, and is settled by the MES',
  async (t) => {
    await estate.process('mes').terminate()
    const sent = await orphans(10, 'courier.confirmed')
    await inState(sent, 'in_doubt')
    t.is(await waiting(sent), sent.length)

    // Younger orders, certainly absent: when the ladder has settled them, it has looked at the older ones often enough.
    const absent = await orphans(5, 'courier.claimed')
    await inState(absent, 'accepted')
    t.deepEqual(
      await ledgerRows(sent),
      sent.map(() => ({ state: 'in_doubt', gen: 0, attempts: 1 })),
    )
    await estate.launch('courier')
    await inState(absent, 'delivered')
    t.deepEqual(
      await ledgerRows(absent),
      absent.map(() => ({ state: 'delivered', gen: 1, attempts: 2 })),
    )
    t.is(await waiting(sent), sent.length, 'nothing of them was sent a second time')

    await estate.launch('mes')
    await inState(sent, 'delivered')
    t.true((await ledgerRows(sent)).every((row) => row.gen === 0 && row.attempts === 1))
    await expectEachOnce(t, estate, [...sent, ...absent])
  },
)

test.serial(
  'an order whose source writes its id in capitals is found in the MES, and not sent again',
  async (t) => {
    await courierWith({ FAILPOINTS: 'courier.confirmed=kill' })
    const reached = reaches(estate, 'courier', 'courier.confirmed')
    const id = randomUUID()
    const capitals = id.toUpperCase()
    const model = await storeModel(estate)
    const ledger = createPool(estate.databases.ledger, { name: 'test', log: createLog('test') })
    try {
      await acceptOrders(ledger, [
        {
          orderId: capitals,
          origin: 'partner:acme',
          sourceRef: '4711',
          path: 'direct',
          pathEpoch: 1,
          pathReason: {},
          routingKey: 'order.submitted',
          body: orderSubmittedBody(
            {
              orderId: capitals,
              source: 'partner',
              clientId: null,
              loyaltyPoints: null,
              material: 'PLA',
              quantity: 1,
              comment: null,
              modelKey: model.key,
              modelSha256: model.sha256,
              modelBytes: model.bytes,
            },
            new Date(),
          ),
          ageMs: 0,
        },
      ])
    } finally {
      await ledger.end()
    }
    await reached
    await courierWith({})
    await inState([capitals], 'delivered')
    t.deepEqual(await ledgerRows([capitals]), [{ state: 'delivered', gen: 0, attempts: 1 }])
    t.deepEqual([...(await mesRows(estate, [id]))], [[id, 1]])
  },
)

test.serial('a status of the order is proof enough, with the MES down', async (t) => {
  await estate.process('mes').terminate()
  const ids = await orphans(4, 'courier.confirmed')
  await inState(ids, 'in_doubt')
  const [known, ...others] = ids
  await withClient(estate.databases.ledger, (client) =>
    client.query(
      `INSERT INTO bridge_inbox (queue, msg_key, order_id, routing_key, exchange, state, body, properties, redelivered, settled_at)
       VALUES ('crm.events', convert_to($1::text, 'UTF8'), $1, 'order.status_changed', 'mes.events', 'forwarded', '', '{}', false, clock_timestamp())`,
      [known],
    ),
  )
  await inState([known!], 'delivered')
  t.deepEqual(
    await ledgerRows(others),
    others.map(() => ({ state: 'in_doubt', gen: 0, attempts: 1 })),
  )
  t.is((await mesRows(estate, ids)).size, 0)
  await estate.launch('courier')
  await estate.launch('mes')
  await expectEachOnce(t, estate, ids)
})

test.serial(
  'a living courier whose life lock was cut: it ends at once, and what it held is settled',
  async (t) => {
    await courierWith({})
    const customers = await customersOf(estate, { pauseMs: 5 })
    for (let round = 0; round < 3; round += 1) {
      const enough = customers.acknowledged.length + 50
      await waitUntil('orders flow', async () => customers.acknowledged.length >= enough)
      const { pid, ownerId } = await livingOwner()
      const lost = says(estate, 'courier', 'life_lock_lost')
      const again = says(estate, 'courier', 'courier_ready')
      await withClient(estate.databases.ledger, (client) =>
        client.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'courier-life'`,
        ),
      )
      await lost
      await waitUntil('the courier gone', async () => !isRunning(pid))
      await waitUntil('nothing left in its hands', async () =>
        withClient(estate.databases.ledger, async (client) => {
          const { rowCount } = await client.query(
            `SELECT FROM order_ledger WHERE owner_id = $1 AND state = 'sending'`,
            [ownerId],
          )
          return rowCount === 0
        }),
      )
      await again
    }
    await customers.stop()
    t.deepEqual(customers.unanswered, [])
    await expectEachOnce(t, estate, await submittedOf(estate))
  },
)

async function livingOwner(): Promise<{ pid: number; ownerId: number }> {
  return withClient(estate.databases.ledger, async (client) => {
    const { rows } = await client.query<{ pid: number; ownerId: number }>(
      'SELECT pid, owner_id AS "ownerId" FROM courier_owner ORDER BY owner_id DESC LIMIT 1',
    )
    return rows[0]!
  })
}
