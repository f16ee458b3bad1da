import { randomUUID } from 'node:crypto'

import test from 'ava'

import { openBroker } from '../adapters/broker/open-broker.ts'
import type { Delivery } from '../adapters/broker/port.ts'
import { ordersToMes } from '../adapters/wire/legacy-topology.ts'
import { type AcceptedOrder, acceptOrders } from '../delivery/accept-orders.ts'
import { Doorbell } from '../delivery/doorbell.ts'
import type { Estate } from '../estate/estate.ts'
import { createLog, type Log } from '../runtime/log.ts'
import { createPool, type Pool } from '../runtime/postgres.ts'
import { reaches, startDirectWay } from './direct-way-fixture.ts'
import { waitUntil } from './wait-until.ts'

/**
 * The ledger and the doorbell take an order's id as it is, whatever a source calls its orders: BullMQ throws at ids with a colon
 * or digits only, generations are told by the last dot, and an AMQP message id holds 255 bytes.
 */
const log: Log = createLog('test')
let estate: Estate
let ledger: Pool

test.before(async () => {
  estate = await startDirectWay({
    without: ['shop', 'crm', 'mes', 'proxy', 'bridge', 'relay', 'applier', 'shadow'],
  })
  ledger = createPool(estate.databases.ledger, { name: 'test', log })
})
test.after.always(async () => {
  await ledger?.end()
  await estate?.stop()
})

function partnerOrder(
  orderId: string,
  sourceRef = orderId,
  origin = 'partner:acme',
): AcceptedOrder {
  return {
    orderId,
    origin,
    sourceRef,
    path: 'direct',
    pathEpoch: 1,
    pathReason: { rule: 'test' },
    routingKey: 'order.submitted',
    body: Buffer.from(JSON.stringify({ orderId })),
    ageMs: 0,
  }
}

async function ring(orders: readonly { orderId: string; gen: number }[]): Promise<void> {
  const { QUEUE_URL: url } = estate.operatorEnvironment
  const doorbell = new Doorbell({ url: url!, queue: 'orders', log })
  try {
    await doorbell.ring(orders)
  } finally {
    await doorbell.close()
  }
}

/** Everything that the MES would have got, taken out of its queue. */
async function takeDelivered(count: number): Promise<Delivery[]> {
  const broker = openBroker(estate.operatorEnvironment['BROKER_URL']!, { log })
  try {
    await waitUntil(
      `${count} orders delivered`,
      async () => {
        const { rows } = await ledger.query<{ open: number }>(
          `SELECT count(*)::int AS open FROM order_ledger WHERE state <> 'delivered'`,
        )
        const { ready } = await broker.depth(ordersToMes.queue)
        if (rows[0]!.open === 0 && ready >= count) return true
        throw new Error(`${rows[0]!.open} open, ${ready} in the queue`)
      },
      30_000,
    )
    const consumer = await broker.openConsumer(ordersToMes.queue, 1000)
    const taken: Delivery[] = []
    while (taken.length < count) taken.push(...(await consumer.next(1000)))
    await consumer.ack(taken)
    const { ready } = await broker.depth(ordersToMes.queue)
    if (ready > 0) throw new Error(`${ready} more messages than orders`)
    return taken
  } finally {
    await broker.close()
  }
}

function orderOf(delivery: Delivery): string {
  const parsed: unknown = JSON.parse(delivery.body.toString('utf8'))
  return typeof parsed === 'object' && parsed !== null && 'orderId' in parsed
    ? String(parsed.orderId)
    : ''
}

const lowerCase = randomUUID()
const awkward = [
  '1',
  '0000000000000000000042',
  '99999999999999999999',
  'acme:4711',
  ':',
  'a:b:c',
  '4711.0',
  '1.2.3',
  '.',
  '..7',
  'x'.repeat(500),
  '7'.repeat(500),
  'Größe-Ж-訂單-🧩',
  '🧩'.repeat(100),
  'with space, "quotes", \\back\\slash and /slash',
  "'; DROP TABLE order_ledger; --",
  'strangler:orders:wait',
  '__proto__',
  'CASE-variant',
  'case-variant',
  lowerCase,
  lowerCase.toUpperCase(),
]

test.serial(
  'ids as sources write them: accepted, rung, delivered, each with its own name',
  async (t) => {
    const orders = awkward.map((id) => partnerOrder(id))
    const accepted = await acceptOrders(ledger, orders)
    t.is(accepted.length, awkward.length, 'no two of them are taken for one')
    await ring(accepted)
    const taken = await takeDelivered(awkward.length)
    t.deepEqual(taken.map(orderOf).toSorted(), awkward.toSorted())
    for (const delivery of taken) {
      const id = orderOf(delivery)
      t.is(delivery.routingKey, 'order.submitted')
      t.is(delivery.properties.headers?.['x-strangler-order'], id)
      t.is(delivery.properties.messageId, Buffer.byteLength(id) <= 255 ? id : undefined)
      t.is(delivery.properties.contentType, 'application/json')
    }
    t.deepEqual(await acceptOrders(ledger, orders), [], 'accepting them again changes nothing')
  },
)

test.serial(
  'the same ids when their courier dies: doubts about them are settled, too',
  async (t) => {
    const again = awkward.map((id) => partnerOrder(`${id.slice(0, 490)}~again`))
    await estate.process('courier').terminate()
    await estate.launch('courier', { FAILPOINTS: 'courier.claimed=kill' })
    const reached = reaches(estate, 'courier', 'courier.claimed')
    const accepted = await acceptOrders(ledger, again)
    await ring(accepted)
    await reached
    await estate.process('courier').terminate()
    await estate.launch('courier')
    const taken = await takeDelivered(accepted.length)
    t.deepEqual(taken.map(orderOf).toSorted(), accepted.map((each) => each.orderId).toSorted())
  },
)

test.serial(
  'the same number from two origins is two orders, from one origin it is one',
  async (t) => {
    const shop = partnerOrder(randomUUID(), '4711', 'shop')
    const acme = partnerOrder(randomUUID(), '4711', 'partner:acme')
    const other = partnerOrder(randomUUID(), '4711', 'partner:other')
    const twice = partnerOrder(randomUUID(), '4711', 'partner:acme')
    const accepted = await acceptOrders(ledger, [shop, acme, other])
    t.is(accepted.length, 3)
    t.deepEqual(await acceptOrders(ledger, [twice]), [])
    const taken = await takeDelivered(3)
    t.deepEqual(
      taken.map(orderOf).toSorted(),
      [shop, acme, other].map((order) => order.orderId).toSorted(),
    )
  },
)

test.serial('an id of 501 characters, or none, is refused by the ledger itself', async (t) => {
  for (const id of ['x'.repeat(501), ''])
    await t.throwsAsync(acceptOrders(ledger, [partnerOrder(id)]), { message: /order_id_length/ })
  const { rows } = await ledger.query(
    'SELECT FROM order_ledger WHERE length(order_id) > 500 OR order_id = $1',
    [''],
  )
  t.is(rows.length, 0)
})
