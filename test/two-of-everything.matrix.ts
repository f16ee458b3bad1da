import { setTimeout as delay } from 'node:timers/promises'

import test, { type ExecutionContext } from 'ava'

import type { Estate } from '../estate/estate.ts'
import { submitOrder } from '../estate/people.ts'
import { withClient } from '../estate/postgres-server.ts'
import { descendantsOf } from '../estate/process-table.ts'
import { customersOf, submittedOf } from './customers.ts'
import {
  expectEachOnce,
  mesRows,
  moveShare,
  reaches,
  startDirectWay,
} from './direct-way-fixture.ts'
import { storeModel, submitOrders } from './shop-orders-by-sql.ts'
import { waitUntil } from './wait-until.ts'

/** Everything twice at the same time: customers who press again, relays, watches, couriers and their supervisors. */
let estate: Estate

test.before(async () => {
  estate = await startDirectWay({ without: ['crm', 'proxy', 'bridge', 'applier', 'shadow'] })
  await moveShare(estate, '100%')
})
test.after.always(() => estate?.stop())

/** Orders with their model, ready to be submitted. */
async function uploadedOrders(count: number): Promise<string[]> {
  const model = await storeModel(estate)
  return withClient(estate.databases.shop, async (client) => {
    const { rows } = await client.query<{ id: string }>(
      `INSERT INTO orders (id, status, material, quantity, model_key, model_sha256, model_bytes)
       SELECT gen_random_uuid(), 'FILE_UPLOADED', 'PLA', 1, $1, $2, $3 FROM generate_series(1, $4) RETURNING id::text`,
      [model.key, model.sha256, model.bytes, count],
    )
    return rows.map((row) => row.id)
  })
}

for (const boundary of ['relay.accepted', 'relay.rung']) {
  test.serial(
    `ten submits of the same order at once, the Shop and the relay (${boundary}) killed in between`,
    async (t) => {
      const ids = await uploadedOrders(10)
      const shop = estate.process('shop')
      await estate.process('relay').terminate()
      await estate.launch('relay', { FAILPOINTS: `${boundary}=kill` })
      const reached = reaches(estate, 'relay', boundary)
      const pages = { shop: estate.legacy.shop, crm: '', mes: '' }
      const pressing = ids.flatMap((id) => Array.from({ length: 10 }, () => submitOrder(pages, id)))
      const all = Promise.all(pressing)
      await Promise.race(pressing)
      shop.kill('SIGKILL')
      await shop.exited
      await shop.restart()
      await all
      await reached
      await estate.process('relay').exited
      await estate.launch('relay')
      // Once more, after the fact: the same answer, and nothing comes of it.
      await Promise.all(ids.map((id) => submitOrder(pages, id)))
      await expectEachOnce(t, estate, ids)
      const rows = await withClient(estate.databases.shop, (client) =>
        client.query(`SELECT FROM strangler.outbox WHERE order_id = ANY($1::uuid[])`, [ids]),
      )
      t.is(rows.rowCount, ids.length)
    },
  )
}

/** Orders flow while both are at work; afterwards the second one goes. */
async function flowWith(
  t: ExecutionContext,
  during: (moreOrders: (count: number) => Promise<void>) => Promise<void>,
): Promise<void> {
  const customers = await customersOf(estate)
  try {
    await during(async (count) => {
      const enough = customers.acknowledged.length + count
      await waitUntil(`${count} more orders`, async () => customers.acknowledged.length >= enough)
    })
  } finally {
    await customers.stop()
  }
  t.deepEqual(customers.unanswered, [])
  await expectEachOnce(t, estate, await submittedOf(estate))
}

test.serial('two relays at once, and one of them killed', async (t) => {
  const first = estate.process('relay')
  await flowWith(t, async (moreOrders) => {
    await estate.launch('relay')
    await moreOrders(200)
    first.kill('SIGKILL')
    await first.exited
    await moreOrders(100)
  })
})

test.serial(
  'two watches at once: the leader freezes, and wakes up in the middle of the other',
  async (t) => {
    const first = estate.process('watch')
    const second = await estate.launch('watch')
    await estate.process('courier').terminate()
    await estate.launch('courier', { FAILPOINTS: 'courier.claimed=kill@2' })
    await flowWith(t, async (moreOrders) => {
      for (const frozen of [first, second, first]) {
        await moreOrders(30)
        await frozenAsLeader(frozen)
        await moreOrders(30)
        frozen.resume()
      }
      await estate.process('courier').terminate()
      await estate.launch('courier')
    })
    await first.terminate()
  },
)

/** Freezes a watch while it holds the leader's lock. */
async function frozenAsLeader(watch: {
  pause(): void
  resume(): void
  pid: number
}): Promise<void> {
  await withClient(estate.databases.ledger, (client) =>
    waitUntil('the watch frozen as leader', async () => {
      watch.pause()
      const { rows } = await client.query<{ leaders: number }>(
        `SELECT count(*)::int AS leaders FROM pg_locks WHERE locktype = 'advisory' AND classid = 45 AND granted`,
      )
      if (rows[0]!.leaders > 0) return true
      watch.resume()
      await delay(7)
      return false
    }),
  )
}

test.serial('a supervisor with three couriers, each killed in turn', async (t) => {
  await estate.process('courier').terminate()
  const supervisor = await estate.launch('courier', { COURIER_CHILDREN: '3' })
  await flowWith(t, async (moreOrders) => {
    for (let round = 0; round < 3; round += 1) {
      await moreOrders(60)
      const children = descendantsOf(supervisor.pid)
      t.true(children.length >= 2)
      process.kill(children[round % children.length]!, 'SIGKILL')
    }
    await moreOrders(60)
  })
  t.true((await ownersOfDelivered()) >= 3, 'more than one of them has carried orders')
})

async function ownersOfDelivered(): Promise<number> {
  return withClient(estate.databases.ledger, async (client) => {
    const { rows } = await client.query<{ count: number }>(
      `SELECT count(DISTINCT owner_id)::int AS count FROM order_ledger WHERE state = 'delivered'`,
    )
    return rows[0]!.count
  })
}

test.serial('two supervisors at once, as in a rolling change of version', async (t) => {
  const first = estate.process('courier')
  await flowWith(t, async (moreOrders) => {
    const second = await estate.launch('courier')
    await moreOrders(150)
    first.pause()
    await moreOrders(50)
    first.resume()
    await first.terminate()
    await moreOrders(50)
    second.kill('SIGKILL')
    await second.exited
    await estate.launch('courier')
    await moreOrders(50)
  })
  await expectEachOnce(t, estate, await submitOrders(estate, 20))
})

test.serial(
  "a courier frozen in the middle of a send, another one at work: as long as it lives its orders are nobody else's",
  async (t) => {
    const [first, relay] = [estate.process('courier'), estate.process('relay')]
    await first.terminate()
    await relay.terminate()
    // Nobody rings, so every order is found by the sweep, the oldest first.
    await estate.launch('relay', { QUEUE_URL: 'postgres://nobody@127.0.0.1:1/nowhere' })
    const frozen = await estate.launch('courier', {
      FAILPOINTS: 'courier.sent=stop@5',
      KILL_PERIOD_MS: '60000',
    })
    const reached = reaches(estate, 'courier', 'courier.sent')
    const held = await submitOrders(estate, 40)
    await reached
    const before = await inHand()
    t.true(before.length >= 5)
    await estate.launch('courier')
    const younger = await submitOrders(estate, 20)
    await waitUntil(
      'the younger ones swept up by the other',
      async () => (await mesRows(estate, younger)).size === younger.length,
    )
    t.deepEqual(await inHand(), before)
    process.kill(descendantsOf(frozen.pid).at(-1)!, 'SIGCONT')
    await expectEachOnce(t, estate, [...held, ...younger])
    await frozen.terminate()
  },
)

/** Orders that a courier holds, and the how manieth try each is. */
async function inHand(): Promise<unknown[]> {
  return withClient(estate.databases.ledger, async (client) => {
    const { rows } = await client.query(
      `SELECT order_id, owner_id, gen, attempts FROM order_ledger WHERE state = 'sending' ORDER BY order_id`,
    )
    return rows
  })
}
