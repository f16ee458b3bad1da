import test from 'ava'

import type { Estate } from '../estate/estate.ts'
import { type PrivateRedis, startPrivateRedis } from '../estate/private-redis.ts'
import { expectEachOnce, ledgerStates, moveShare, startDirectWay } from './direct-way-fixture.ts'
import { hasServer, serialWith } from './optional-server.ts'
import { redisCommand } from './redis-command.ts'
import { submitOrders } from './shop-orders-by-sql.ts'
import { waitUntil } from './wait-until.ts'

/**
 * The doorbell only rings. Whatever happens to Redis, the ledger has the orders: losing every ring costs time, never an order,
 * and rings that rise again from an old snapshot find nothing to do.
 */
const onRedis = serialWith('redis-server')
let redis: PrivateRedis
let estate: Estate

test.before(async () => {
  if (!hasServer('redis-server')) return
  redis = await startPrivateRedis({ appendonly: 'no', policy: 'noeviction' })
  estate = await startDirectWay({ queueUrl: redis.url })
  await moveShare(estate, '100%')
})
test.after.always(async () => {
  await estate?.stop()
  await redis?.stop()
})

/** Orders wait with their rings in Redis: the courier is away. */
async function waitingOrders(count: number): Promise<string[]> {
  await estate.process('courier').terminate()
  const before = (await ledgerStates(estate))['accepted'] ?? 0
  const ids = await submitOrders(estate, count)
  await waitUntil(
    'orders accepted',
    async () => ((await ledgerStates(estate))['accepted'] ?? 0) >= before + count,
  )
  return ids
}

onRedis('kill -9 of a Redis that keeps nothing on disk, with every ring waiting', async (t) => {
  const ids = await waitingOrders(200)
  await redis.restart('kill9')
  await estate.launch('courier')
  await expectEachOnce(t, estate, ids)
})

onRedis('a Redis that comes back with a wiped volume', async (t) => {
  const ids = await waitingOrders(200)
  await redis.restart('kill9', { wipe: true })
  await estate.launch('courier')
  await expectEachOnce(t, estate, ids)
})

onRedis('FLUSHALL while orders flow', async (t) => {
  const flowing = submitOrders(estate, 300, 4)
  for (let round = 0; round < 5; round += 1) await redisCommand(redis.url, 'FLUSHALL')
  await expectEachOnce(t, estate, await flowing)
})

onRedis('rings that rise again from an old snapshot find their orders delivered', async (t) => {
  const ids = await waitingOrders(100)
  await redisCommand(redis.url, 'SAVE')
  await estate.launch('courier')
  await expectEachOnce(t, estate, ids)
  await redis.restart('kill9')
  const more = await submitOrders(estate, 20)
  await expectEachOnce(t, estate, [...ids, ...more])
})

onRedis('Redis out of memory under noeviction: rings are refused, orders are not', async (t) => {
  await redisCommand(redis.url, 'CONFIG', 'SET', 'maxmemory', '1')
  const ids = await submitOrders(estate, 100)
  await expectEachOnce(t, estate, ids)
  await redisCommand(redis.url, 'CONFIG', 'SET', 'maxmemory', '0')
  await expectEachOnce(t, estate, await submitOrders(estate, 20))
})

onRedis('a Redis that evicts what it likes: doctor names it, no order minds', async (t) => {
  await redisCommand(redis.url, 'CONFIG', 'SET', 'maxmemory-policy', 'allkeys-random')
  const doctor = await estate.strangler('doctor', '--json')
  t.is(doctor.code, 1)
  t.regex(doctor.stdout, /noeviction/)
  await redisCommand(redis.url, 'CONFIG', 'SET', 'maxmemory-policy', 'noeviction')
  await expectEachOnce(t, estate, await submitOrders(estate, 20))
})

onRedis('a hung Redis: orders are accepted and delivered from the ledger', async (t) => {
  redis.pause()
  try {
    const ids = await submitOrders(estate, 100)
    await expectEachOnce(t, estate, ids)
  } finally {
    redis.resume()
  }
  await expectEachOnce(t, estate, await submitOrders(estate, 20))
})

onRedis('two masters: the relay rings at one Redis, the courier listens at another', async (t) => {
  const other = await startPrivateRedis({ appendonly: 'no', policy: 'noeviction' })
  try {
    await estate.process('relay').terminate()
    await estate.launch('relay', { QUEUE_URL: other.url })
    await expectEachOnce(t, estate, await submitOrders(estate, 100))
  } finally {
    await estate.process('relay').terminate()
    await other.stop()
    await estate.launch('relay')
  }
  await expectEachOnce(t, estate, await submitOrders(estate, 20))
})

onRedis('Redis down when everything starts', async (t) => {
  await estate.process('courier').terminate()
  await estate.process('relay').terminate()
  await redis.stop()
  await estate.launch('relay')
  await estate.launch('courier')
  const ids = await submitOrders(estate, 100)
  await expectEachOnce(t, estate, ids)
})
