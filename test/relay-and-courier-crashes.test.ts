import test from 'ava'

import type { Estate } from '../estate/estate.ts'
import { descendantsOf } from '../estate/process-table.ts'
import { expectEachOnce, moveShare, reaches, startDirectWay } from './direct-way-fixture.ts'
import { submitOrders } from './shop-orders-by-sql.ts'

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
    const more = await submitOrders(estate, 10)
    courier.resume()
    const [child] = descendantsOf(courier.pid).slice(-1)
    process.kill(child!, 'SIGCONT')
    await expectEachOnce(t, estate, [...ids, ...more])
  },
)

test.serial(
  'event loop of a courier blocked past every lock: the second run of the ring is a no-op',
  async (t) => {
    await estate.process('courier').terminate()
    await estate.launch('courier', { FAILPOINTS: 'courier.confirmed=block:4000@4' })
    const reached = reaches(estate, 'courier', 'courier.confirmed')
    const ids = await submitOrders(estate, 60)
    await reached
    await expectEachOnce(t, estate, ids)
    await estate.process('courier').terminate()
    await estate.launch('courier')
  },
)
