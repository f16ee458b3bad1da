import test from 'ava'

import { openBroker } from '../adapters/broker/open-broker.ts'
import type { Broker } from '../adapters/broker/port.ts'
import { forwardExchange, ordersToMes } from '../adapters/wire/legacy-topology.ts'
import type { Estate } from '../estate/estate.ts'
import { createLog } from '../runtime/log.ts'
import {
  expectEachOnce,
  ledgerStates,
  ledgerStatesIn,
  mesRows,
  moveShare,
  says,
  startDirectWay,
} from './direct-way-fixture.ts'
import { sized } from './full-size.ts'
import { submitOrders } from './shop-orders-by-sql.ts'
import { waitUntil, waitUntilIn } from './wait-until.ts'

/** The MES is away for long, or the way into its queue is gone. Orders stay accepted, somebody is told, and nothing is lost. */
const { queue } = ordersToMes
const onward = { exchange: forwardExchange(queue), queue, pattern: '#' }
const straight = ordersToMes.keys.map((pattern) => ({
  exchange: ordersToMes.exchange,
  queue,
  pattern,
}))
let estate: Estate
let broker: Broker

test.before(async () => {
  estate = await startDirectWay()
  await moveShare(estate, '100%')
  broker = openBroker(estate.operatorEnvironment['BROKER_URL']!, { log: createLog('test') })
})
test.after.always(async () => {
  await broker?.close()
  await estate?.stop()
})

const queued = sized(100_000, 2000)
test.serial(
  `an MES that is down with ${queued} orders queued, and slow when it comes back`,
  async (t) => {
    const patience = sized(1_800_000, 150_000)
    t.timeout(2 * patience)
    await estate.process('mes').terminate()
    const ids = await submitOrders(estate, queued)
    await waitUntil(
      'all of them queued',
      async () => {
        const { ready } = await broker.depth(queue)
        return ready === ids.length && (await ledgerStates(estate))['delivered'] === ids.length
      },
      patience,
    )
    await estate.launch('mes', { MES_CONSUME_DELAY_MS: '20' })
    await waitUntil('the first of them', async () => (await mesRows(estate, ids)).size > 50)
    // It is stopped once more in the middle, and comes back at its old speed.
    await estate.process('mes').terminate()
    t.true((await mesRows(estate, ids)).size < ids.length)
    const more = await submitOrders(estate, 100)
    await estate.launch('mes')
    await expectEachOnce(t, estate, [...ids, ...more], patience)
  },
)

/** Submits while there is no way into the queue, and again when there is. */
async function expectHeldBack(
  block: () => Promise<unknown>,
  mend: () => Promise<unknown>,
): Promise<string[]> {
  await block()
  const alarm = says(estate, 'courier', 'sink_unroutable')
  const ids = await submitOrders(estate, 50)
  await alarm
  await waitUntilIn(
    [estate.databases.ledger],
    'all of them back in the ledger, none dead, none in doubt',
    async (ledger) => {
      const { delivered: _, ...open } = await ledgerStatesIn(ledger)
      if (Object.keys(open).join() === 'accepted' && open['accepted'] === ids.length) return true
      throw new Error(JSON.stringify(open))
    },
  )
  if ((await mesRows(estate, ids)).size > 0) throw new Error('an order arrived on no way at all')
  await mend()
  return ids
}

test.serial(
  'our binding is removed: orders stay accepted, an alarm says so, all arrive when it is back',
  async (t) => {
    const ids = await expectHeldBack(
      () => broker.rebind({ add: [], remove: [onward] }),
      () => broker.rebind({ add: [onward], remove: [] }),
    )
    await expectEachOnce(t, estate, ids)
  },
)

test.serial('the queue of the MES is deleted, and made anew', async (t) => {
  const ids = await expectHeldBack(
    () => broker.deleteQueue(queue),
    async () => {
      await broker.declareQueue(queue)
      await broker.rebind({ add: [onward, ...straight], remove: [] })
    },
  )
  await expectEachOnce(t, estate, ids)
})

test.serial('our exchange is deleted: a courier that connects makes it again', async (t) => {
  const ids = await expectHeldBack(
    () => broker.deleteExchange(onward.exchange),
    async () => {
      await estate.process('courier').terminate()
      await estate.launch('courier')
    },
  )
  await expectEachOnce(t, estate, ids)
})
