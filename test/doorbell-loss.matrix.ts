import test from 'ava'

import type { Estate } from '../estate/estate.ts'
import { freePort } from '../estate/free-port.ts'
import { type PrivateRedis, startPrivateRedis } from '../estate/private-redis.ts'
import { killTree } from '../estate/process-tree.ts'
import { submittedOf } from './customers.ts'
import {
  expectEachOnce,
  ledgerStates,
  ledgerStatesIn,
  mesRows,
  moveShare,
  startDirectWay,
} from './direct-way-fixture.ts'
import { hasServer, serialWith } from './optional-server.ts'
import { redisCommand } from './redis-command.ts'
import { submitOrders } from './shop-orders-by-sql.ts'
import { startTcpForwarder, type TcpForwarder } from './tcp-forwarder.ts'
import { waitUntil, waitUntilIn } from './wait-until.ts'

/**
 * The doorbell only rings. Whatever happens to Redis, the ledger has the orders: losing every ring costs time, never an order,
 * and rings that rise again from an old snapshot find nothing to do.
 */
const onRedis = serialWith('redis-server')
let redis: PrivateRedis
/** The address that everybody has of it. */
let address: TcpForwarder
let estate: Estate

test.before(async () => {
  if (!hasServer('redis-server')) return
  redis = await startPrivateRedis({ appendonly: 'no', policy: 'noeviction' })
  address = await startTcpForwarder(redis.port)
  estate = await startDirectWay({ queueUrl: `redis://127.0.0.1:${address.port}` })
  await moveShare(estate, '100%')
})
test.after.always(async () => {
  await estate?.stop()
  await address?.close()
  await redis?.stop()
})

/** Orders wait with their rings in Redis: the courier is away. */
async function waitingOrders(count: number): Promise<string[]> {
  await estate.process('courier').terminate()
  const before = (await ledgerStates(estate))['accepted'] ?? 0
  const ids = await submitOrders(estate, count)
  await waitUntilIn(
    [estate.databases.ledger],
    'orders accepted',
    async (ledger) => ((await ledgerStatesIn(ledger))['accepted'] ?? 0) >= before + count,
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

/** A replica of `redis` whose stream comes by a link that can be held: what is said meanwhile, it does not get. */
async function startReplica(): Promise<{ replica: PrivateRedis; link: TcpForwarder }> {
  const replica = await startPrivateRedis({ appendonly: 'no', policy: 'noeviction' })
  const link = await startTcpForwarder(redis.port)
  await redisCommand(replica.url, 'REPLICAOF', '127.0.0.1', String(link.port))
  await untilReplicated(replica)
  return { replica, link }
}

/** All that the primary has said, the replica has taken in: WAIT says nothing of what another connection has written. */
async function untilReplicated(replica: PrivateRedis): Promise<void> {
  await waitUntil('the replica has everything', async () => {
    const said = replicationOf(await redisCommand(redis.url, 'INFO', 'replication'))
    const taken = replicationOf(await redisCommand(replica.url, 'INFO', 'replication'))
    return (
      taken.get('master_link_status') === 'up' &&
      Number(taken.get('slave_repl_offset')) >= Number(said.get('master_repl_offset'))
    )
  })
}

function replicationOf(info: string): ReadonlyMap<string, string> {
  return new Map([...info.matchAll(/^(\w+):(.*?)\r?$/gm)].map(([, name, value]) => [name!, value!]))
}

/** How many jobs wait there for a courier. */
async function ringsIn({ url }: PrivateRedis): Promise<number> {
  const prefix = estate.operatorEnvironment['QUEUE_PREFIX']!
  return Number((await redisCommand(url, 'LLEN', `${prefix}:orders:wait`)).slice(1))
}

async function waitingRings(count: number): Promise<string[]> {
  const before = await ringsIn(redis)
  const ids = await waitingOrders(count)
  // At least one job: how many orders one names, the relay decides.
  await waitUntil('they are rung for', async () => (await ringsIn(redis)) > before)
  return ids
}

onRedis('a failover that loses the last rings: the replica never had them', async (t) => {
  const { replica, link } = await startReplica()
  try {
    const replicated = await waitingRings(100)
    await untilReplicated(replica)
    t.true((await ringsIn(replica)) > 0, 'some rings are at both')
    link.hold()
    const unreplicated = await waitingRings(100)
    t.true((await ringsIn(replica)) < (await ringsIn(redis)), 'some rings are only at the primary')
    await killTree(redis.pid)
    await link.close()
    await redisCommand(replica.url, 'REPLICAOF', 'NO', 'ONE')
    address.pointTo(replica.port)
    await estate.launch('courier')
    const more = await submitOrders(estate, 50)
    await expectEachOnce(t, estate, [...replicated, ...unreplicated, ...more])
  } finally {
    await redis.restart('kill9')
    address.pointTo(redis.port)
    await replica.stop()
  }
  await expectEachOnce(t, estate, await submitOrders(estate, 20))
})

onRedis('two masters that hold the same rings, and a courier listens at each', async (t) => {
  const { replica, link } = await startReplica()
  try {
    const first = await waitingRings(200)
    await untilReplicated(replica)
    await link.close()
    await redisCommand(replica.url, 'REPLICAOF', 'NO', 'ONE')
    t.true((await ringsIn(replica)) > 0)
    const couriers = await Promise.all([
      estate.launch('courier'),
      estate.launch('courier', { QUEUE_URL: replica.url }),
    ])
    await waitUntil('both have heard what they hold', async () => {
      const left = await Promise.all([ringsIn(redis), ringsIn(replica)])
      return left.every((rings) => rings === 0)
    })
    await expectEachOnce(t, estate, [...first, ...(await submitOrders(estate, 50))])
    await Promise.all(couriers.map((courier) => courier.terminate()))
    await estate.launch('courier')
  } finally {
    await link.close()
    await replica.stop()
  }
})

onRedis(
  'a Redis that answers half a second late: no order waits for the ring of another',
  async (t) => {
    const others = (await mesRows(estate, await submittedOf(estate))).size
    const failures: string[] = []
    const off = estate.process('relay').onLine((line) => {
      if (line.includes('"event":"ring_failed"')) failures.push(line)
    })
    address.delayAnswers(500)
    address.hold()
    try {
      const ids: string[] = []
      for (let n = 1; n <= 3; n += 1) {
        ids.push(...(await submitOrders(estate, 1)))
        await waitUntilIn([estate.databases.ledger], 'it is accepted', async (ledger) => {
          const states = Object.values(await ledgerStatesIn(ledger))
          return states.reduce((sum, count) => sum + count, 0) === others + n
        })
      }
      t.deepEqual(failures, [], 'the ring of the first has neither been answered nor given up')
      address.release()
      await expectEachOnce(t, estate, ids)
      await expectEachOnce(t, estate, await submitOrders(estate, 100))
    } finally {
      off()
      address.release()
      address.delayAnswers(0)
    }
  },
)

onRedis('Redis down when everything starts, and its bell is heard once it is there', async (t) => {
  await estate.process('courier').terminate()
  await estate.process('relay').terminate()
  const port = await freePort()
  const absent = { QUEUE_URL: `redis://127.0.0.1:${port}` }
  await estate.launch('relay', absent)
  await estate.launch('courier', absent)
  await expectEachOnce(t, estate, await submitOrders(estate, 100))
  const late = await startPrivateRedis({ appendonly: 'no', policy: 'noeviction', port })
  try {
    const ids: string[] = []
    const prefix = estate.operatorEnvironment['QUEUE_PREFIX']!
    await waitUntil('a ring is heard', async () => {
      ids.push(...(await submitOrders(estate, 1)))
      return (await redisCommand(late.url, 'ZCARD', `${prefix}:orders:completed`)) !== ':0'
    })
    await expectEachOnce(t, estate, ids)
  } finally {
    await late.stop()
  }
})
