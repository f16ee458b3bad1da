import test, { type ExecutionContext } from 'ava'

import { openBroker } from '../adapters/broker/open-broker.ts'
import { forwardExchange, ordersToMes } from '../adapters/wire/legacy-topology.ts'
import type { Estate } from '../estate/estate.ts'
import { type PrivateRabbitmq, startPrivateRabbitmq } from '../estate/private-rabbitmq.ts'
import { declareLegacyTopology } from '../legacy/broker/declare-amqp.ts'
import { createLog } from '../runtime/log.ts'
import { customersOf, submittedOf } from './customers.ts'
import {
  expectEachOnce,
  installGuard,
  mesRows,
  moveShare,
  says,
  secondSends,
  startDirectWay,
} from './direct-way-fixture.ts'
import { hasServer, serialWith } from './optional-server.ts'
import { submitOrders } from './shop-orders-by-sql.ts'
import { waitUntil } from './wait-until.ts'

/**
 * RabbitMQ dies, hangs, hangs up and loses the queue while orders flow. What it had not confirmed is in doubt until it is proved
 * absent; the guard in the MES tells what the broker delivered again from what we would have sent again, which is nothing.
 */
const onRabbitmq = serialWith('rabbitmq-server')
let rabbitmq: PrivateRabbitmq
let estate: Estate

test.before(async () => {
  if (!hasServer('rabbitmq-server')) return
  rabbitmq = await startPrivateRabbitmq()
  estate = await startDirectWay({
    amqpUrl: rabbitmq.url,
    amqpManagementUrl: rabbitmq.managementUrl,
  })
  await installGuard(estate)
  await moveShare(estate, '100%')
})
test.after.always(async () => {
  await estate?.stop()
  await rabbitmq?.stop()
})

/** Customers are served all through it: accepting an order waits for no broker. */
async function through(
  t: ExecutionContext,
  trouble: (moreOrders: (count: number) => Promise<void>) => Promise<void>,
): Promise<void> {
  t.timeout(180_000)
  const customers = await customersOf(estate, { count: 2 })
  try {
    await trouble(async (count) => {
      const enough = customers.acknowledged.length + count
      await waitUntil(`${count} more orders`, async () => customers.acknowledged.length >= enough)
    })
  } finally {
    await customers.stop()
  }
  t.deepEqual(customers.unanswered, [], 'no customer met the trouble')
  await expectEachOnce(t, estate, await submittedOf(estate), 120_000)
  t.is(await secondSends(estate), 0)
}

onRabbitmq('kill -9 in the middle of the flow: the breaker opens, and closes again', async (t) => {
  await through(t, async (moreOrders) => {
    await moreOrders(50)
    const opened = says(estate, 'courier', 'breaker_open', 90_000)
    const closed = says(estate, 'courier', 'breaker_closed', 90_000)
    await rabbitmq.restart('kill9')
    await opened
    await closed
    await moreOrders(20)
  })
})

onRabbitmq('frozen past the confirm timeout', async (t) => {
  await through(t, async (moreOrders) => {
    await moreOrders(20)
    const lost = says(estate, 'courier', 'sender_lost', 90_000)
    rabbitmq.pause()
    try {
      await moreOrders(20)
      await lost
    } finally {
      rabbitmq.resume()
    }
    await moreOrders(20)
  })
})

onRabbitmq('the server closes every connection, three times', async (t) => {
  await through(t, async (moreOrders) => {
    for (let round = 0; round < 3; round += 1) {
      await moreOrders(20)
      await rabbitmq.ctl('close_all_connections', 'test')
    }
    await moreOrders(20)
  })
})

onRabbitmq('the queue of the MES is deleted, and made anew: an alarm, no loss', async (t) => {
  const before = await submitOrders(estate, 5)
  await expectEachOnce(t, estate, before)
  const alarm = says(estate, 'courier', 'sink_unroutable')
  await rabbitmq.ctl('delete_queue', ordersToMes.queue)
  const ids = await submitOrders(estate, 50)
  await alarm
  t.is((await mesRows(estate, ids)).size, 0)
  await declareLegacyTopology(rabbitmq.url)
  const broker = openBroker(rabbitmq.url, { log: createLog('test') })
  const { queue } = ordersToMes
  await broker.rebind({
    add: [{ exchange: forwardExchange(queue), queue, pattern: '#' }],
    remove: [],
  })
  await broker.close()
  await expectEachOnce(t, estate, [...before, ...ids])
  t.is(await secondSends(estate), 0)
})
