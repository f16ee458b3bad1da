import { randomUUID } from 'node:crypto'

import test from 'ava'

import type { EmbeddedPostgres } from '../estate/embedded-postgres.ts'
import { startProvisionedPostgres } from '../estate/provisioned-postgres.ts'
import { createLog } from '../runtime/log.ts'
import { createPool, type Pool } from '../runtime/postgres.ts'
import { acceptOrders } from './accept-orders.ts'
import { LedgerClaims } from './ledger-claims.ts'

let postgres: EmbeddedPostgres
let ledger: Pool

test.before(async () => {
  postgres = await startProvisionedPostgres()
  ledger = createPool(postgres.urlFor('ledger'), { name: 'test', max: 8, log: createLog('test') })
})
test.after.always(async () => {
  await ledger?.end()
  await postgres?.stop()
})

async function accepted(count: number, path: 'direct' | 'legacy' = 'direct'): Promise<string[]> {
  const ids = Array.from({ length: count }, () => randomUUID())
  await acceptOrders(
    ledger,
    ids.map((orderId) => ({
      orderId,
      origin: 'shop',
      sourceRef: orderId,
      path,
      pathEpoch: 1,
      pathReason: {},
      routingKey: 'order.submitted',
      body: Buffer.from(orderId),
      ageMs: 0,
    })),
  )
  return ids
}

async function stateOf(id: string): Promise<string> {
  const { rows } = await ledger.query<{ state: string }>(
    'SELECT state FROM order_ledger WHERE order_id = $1',
    [id],
  )
  return rows[0]!.state
}

test('of many that ring for one order at once, one gets it', async (t) => {
  const [id] = await accepted(1)
  const couriers = Array.from({ length: 6 }, (_, n) => new LedgerClaims(ledger, 100 + n))
  const claims = await Promise.all(
    couriers.flatMap((courier) => [
      courier.claim({ orderId: id!, gen: 0 }, 'a'),
      courier.claim({ orderId: id!, gen: 0 }, 'a'),
    ]),
  )
  t.is(claims.filter((claim) => claim !== undefined).length, 1)
})

test('an old generation, a legacy order, an unknown order and one that is not due are nobody’s', async (t) => {
  const claims = new LedgerClaims(ledger, 200)
  const [old, later] = await accepted(2)
  const [legacy] = await accepted(1, 'legacy')
  await ledger.query('UPDATE order_ledger SET gen = 1 WHERE order_id = $1', [old])
  await ledger.query(
    `UPDATE order_ledger SET next_attempt_at = now() + interval '1 hour' WHERE order_id = $1`,
    [later],
  )
  const rung = [old!, later!, legacy!, 'no-such-order'].map((orderId) =>
    claims.claim({ orderId, gen: 0 }, 'a'),
  )
  t.deepEqual(await Promise.all(rung), [undefined, undefined, undefined, undefined])
})

/**
 * The connection of a claim broke after its commit: the row says `sending` under a courier that lives and knows nothing of it.
 * Nobody may take it over, so without this it would wait for ever.
 */
test('a claim whose answer was lost is given back, what is in hand is not', async (t) => {
  const claims = new LedgerClaims(ledger, 300)
  const [lost, held] = await accepted(2)
  const order = await claims.claim({ orderId: held!, gen: 0 }, 'a')
  t.truthy(order)
  t.is(await claims.letGoOfUnknown(), 0)
  // Any claim that fails may have committed: this one asks for a generation that no integer holds.
  await t.throwsAsync(claims.claim({ orderId: lost!, gen: 2 ** 40 }, 'a'))
  await ledger.query(
    `UPDATE order_ledger SET state = 'sending', owner_id = 300, sender = 'a' WHERE order_id = $1`,
    [lost],
  )
  t.is(await claims.letGoOfUnknown(), 1)
  t.is(await stateOf(lost!), 'accepted')
  t.is(await stateOf(held!), 'sending')
  t.true(await claims.delivered(order!))
  t.is(await claims.letGoOfUnknown(), 0)
})

test('a mark that is repeated after a lost answer still says delivered', async (t) => {
  const claims = new LedgerClaims(ledger, 400)
  const [id] = await accepted(1)
  const order = await claims.claim({ orderId: id!, gen: 0 }, 'a')
  t.true(await claims.delivered(order!))
  t.true(await claims.delivered(order!))
})

test('a courier that was taken over changes nothing any more', async (t) => {
  const claims = new LedgerClaims(ledger, 500)
  const [id] = await accepted(1)
  const order = await claims.claim({ orderId: id!, gen: 0 }, 'a')
  await ledger.query(
    `UPDATE order_ledger SET state = 'in_doubt', doubt_at = now() WHERE order_id = $1`,
    [id],
  )
  t.false(await claims.delivered(order!))
  await claims.notTaken([order!], 0)
  t.is(await stateOf(id!), 'in_doubt')
})
