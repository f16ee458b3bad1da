import test from 'ava'

import type { Estate } from '../estate/estate.ts'
import { withClient } from '../estate/postgres-server.ts'
import { thawTree } from '../estate/process-tree.ts'
import { expectEachOnce, moveShare, reaches, says, startDirectWay } from './direct-way-fixture.ts'
import { submitOrders } from './shop-orders-by-sql.ts'
import { waitUntil } from './wait-until.ts'

/**
 * A process dies at each boundary of an order's direct way, with orders under way. What the boundary means for the order stands
 * beside it; what must come of it is the same each time: the MES has every order, once.
 */
let estate: Estate

test.before(async () => {
  estate = await startDirectWay()
  await moveShare(estate, '100%')
})
test.after.always(() => estate?.stop())

const relayBoundaries = {
  'relay.taken': 'outbox rows are locked, the ledger knows nothing yet: nothing was accepted',
  'relay.accepted':
    'the ledger has committed, the outbox mark has not: the insert is repeated and changes nothing',
  'relay.rung':
    'the mark is written and not committed, the ring may be out: the ring is repeated and changes nothing',
}

/** Resolves when the supervisor has ended a courier that missed its beats. */
function silenced(of: Estate): Promise<void> {
  const said = of.process('courier').lastLines(200)
  if (said.some((line) => line.includes('"courier_silent"'))) return Promise.resolve()
  return new Promise((resolve) => {
    const stop = of.process('courier').onLine((line) => {
      if (!line.includes('"courier_silent"')) return
      stop()
      resolve()
    })
  })
}

for (const [boundary, meaning] of Object.entries(relayBoundaries)) {
  test.serial(`relay killed at ${boundary}: ${meaning}`, async (t) => {
    await estate.process('relay').terminate()
    await estate.launch('relay', { FAILPOINTS: `${boundary}=kill` })
    const reached = reaches(estate, 'relay', boundary)
    const first = await submitOrders(estate, 5)
    const second = submitOrders(estate, 40)
    await reached
    await estate.process('relay').exited
    await estate.launch('relay')
    await expectEachOnce(t, estate, [...first, ...(await second)])
  })
}

const courierBoundaries = {
  'courier.claimed':
    'the claim has committed, nothing was sent: nobody can know, the ladder proves it absent and it is sent again',
  'courier.sent': 'it is on its way to the broker, no answer yet: it may be there or not',
  'courier.confirmed':
    'the broker has it, the ledger still says sending: found in the MES, never sent again',
  'courier.marked':
    'delivered is committed, the ring is not finished: the ring comes again and changes nothing',
}

for (const [boundary, meaning] of Object.entries(courierBoundaries)) {
  test.serial(`courier killed at ${boundary}: ${meaning}`, async (t) => {
    await estate.process('courier').terminate()
    await estate.launch('courier', { FAILPOINTS: `${boundary}=kill` })
    const reached = reaches(estate, 'courier', boundary)
    const ids = await submitOrders(estate, 60)
    await reached
    await estate.process('courier').terminate()
    await estate.launch('courier')
    await expectEachOnce(t, estate, ids)
  })
}

test.serial(
  'courier frozen between claim and send: its supervisor makes a dead one of it before anyone takes over',
  async (t) => {
    await estate.process('courier').terminate()
    await estate.launch('courier', { FAILPOINTS: 'courier.claimed=stop' })
    const reached = reaches(estate, 'courier', 'courier.claimed')
    const ids = await submitOrders(estate, 60)
    await reached
    await silenced(estate)
    await estate.process('courier').terminate()
    await estate.launch('courier')
    await expectEachOnce(t, estate, ids)
  },
)

test.serial('courier frozen in the middle of a send', async (t) => {
  await estate.process('courier').terminate()
  await estate.launch('courier', { FAILPOINTS: 'courier.sent=stop@5' })
  const reached = reaches(estate, 'courier', 'courier.sent')
  const ids = await submitOrders(estate, 60)
  await reached
  await silenced(estate)
  await estate.process('courier').terminate()
  await estate.launch('courier')
  await expectEachOnce(t, estate, ids)
})

interface Held {
  readonly order_id: string
  readonly state: string
  readonly owner_id: number
  readonly attempts: number
  readonly gen: number
}

/** The orders that a courier has in hand. */
function inHand(): Promise<Held[]> {
  return withClient(estate.databases.ledger, async (client) => {
    const { rows } = await client.query<Held>(
      `SELECT order_id, state, owner_id, attempts, gen FROM order_ledger WHERE state = 'sending' ORDER BY order_id`,
    )
    return rows
  })
}

/** Makes it look as if a courier had died with this order in hand; resolves when the watch has proved it unsent. */
async function dieWith(id: string): Promise<void> {
  await withClient(estate.databases.ledger, async (client) => {
    await waitUntil(`${id} in the ledger`, async () => {
      const { rowCount } = await client.query(
        `WITH dead AS (INSERT INTO courier_owner (host, pid) VALUES ('gone', 1) RETURNING owner_id)
         UPDATE order_ledger SET state = 'sending', attempts = attempts + 1, sending_at = clock_timestamp(),
           owner_id = (SELECT owner_id FROM dead), sender = 'courier.gone.' || (SELECT owner_id FROM dead)
         WHERE order_id = $1 AND state = 'accepted'`,
        [id],
      )
      return rowCount === 1
    })
    await waitUntil(`${id} proved absent`, async () => {
      const { rowCount } = await client.query(
        `SELECT FROM order_ledger WHERE order_id = $1 AND state = 'accepted' AND gen = 1`,
        [id],
      )
      return rowCount === 1
    })
  })
}

test.serial(
  'courier and supervisor frozen together: the life lock is still held, so nobody takes over, and both go on',
  async (t) => {
    await estate.process('courier').terminate()
    await estate.launch('courier', {
      FAILPOINTS: 'courier.claimed=stop',
      KILL_PERIOD_MS: '60000',
    })
    const reached = reaches(estate, 'courier', 'courier.claimed')
    const ids = await submitOrders(estate, 60)
    await reached
    const courier = estate.process('courier')
    courier.pause()
    const held = await inHand()
    t.true(held.length > 0)
    const more = await submitOrders(estate, 10)
    // The clock of this test is what the watch does with a courier that is really dead: each of these takes a takeover and a
    // whole SETTLE_MS (which is KILL_PERIOD_MS here), so two of them are longer than both periods.
    await dieWith(more[0]!)
    await dieWith(more[1]!)
    t.deepEqual(await inHand(), held, 'same owner, same attempts: nobody took them over')
    thawTree(courier.pid)
    await expectEachOnce(t, estate, [...ids, ...more])
  },
)

test.serial(
  'event loop of a courier blocked past the lock of its ring: the ring runs a second time elsewhere, and that is a no-op',
  async (t) => {
    await estate.process('courier').terminate()
    // Both supervisors are patient: nobody is killed here.
    const settings = {
      KILL_PERIOD_MS: '600000',
      DOORBELL_LOCK_MS: '1000',
      DOORBELL_STALLED_MS: '500',
    }
    const blocked = await estate.launch('courier', {
      ...settings,
      FAILPOINTS: 'courier.confirmed=block:10000',
    })
    const other = await estate.launch('courier', settings)
    const again = says(estate, 'courier', 'ring_again')
    const ids: string[] = []
    // Either of them may take a ring; sooner or later the first gets one.
    do ids.push(...(await submitOrders(estate, 20)))
    while (!blocked.lastLines(500).some((line) => line.includes('failpoint courier.confirmed ')))
    await again
    const held = await inHand()
    t.true(held.length > 0, 'the first is still at it')
    await expectEachOnce(t, estate, ids)
    const tried = await withClient(estate.databases.ledger, async (client) => {
      const { rows } = await client.query<Pick<Held, 'attempts' | 'gen'>>(
        `SELECT DISTINCT attempts, gen FROM order_ledger WHERE order_id = ANY($1::text[])`,
        [ids],
      )
      return rows
    })
    t.deepEqual(tried, [{ attempts: 1, gen: 0 }], 'every order was claimed once')
    t.false(blocked.lastLines(200).some((line) => line.includes('courier_died')))
    await blocked.terminate()
    await other.terminate()
    await estate.launch('courier')
  },
)
