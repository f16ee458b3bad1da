import { setTimeout as delay } from 'node:timers/promises'

import test from 'ava'
import pg from 'pg'

import type { Sender } from '../adapters/broker/port.ts'
import { type PostgresServer, withClient } from '../estate/postgres-server.ts'
import { type PrivateRedis, startPrivateRedis } from '../estate/private-redis.ts'
import { hasServer, serialWith } from './optional-server.ts'
import { redisCommand } from './redis-command.ts'
import {
  arrivesInShop,
  expectNothingThroughCrm,
  hears,
  inInbox,
  messageOf,
  settledInInbox,
  startStatusesWay,
  type StatusesWay,
  submittedOrder,
  submittedOrders,
  tell,
} from './statuses-fixture.ts'
import { waitUntil } from './wait-until.ts'

/**
 * Statuses while servers die and rows are held. The inbox has every event, so whatever rings, hangs or comes back, the row in the
 * Shop ends right; and what one order waits for, no other does.
 */
const onRedis = serialWith('redis-server')
let redis: PrivateRedis | undefined
let server: PostgresServer
let way: StatusesWay
/** The MES publishes through it; a new one after each outage of the broker. */
let mes: Sender

test.before(async () => {
  if (hasServer('redis-server'))
    redis = await startPrivateRedis({ appendonly: 'no', policy: 'noeviction' })
  way = await startStatusesWay({
    without: ['shop', 'crm', 'mes', 'proxy', 'relay', 'courier', 'watch'],
    ...(redis === undefined ? {} : { queueUrl: redis.url }),
  })
  server = way.estate.postgres
  mes = way.mes
})
test.after.always(async () => {
  await mes?.close()
  await way?.stop()
  await redis?.stop()
})

const price = '12.30'
const wanted = `PRICE_CALCULATED ${price} EUR`

function tellAll(ids: readonly string[]): Promise<unknown> {
  return Promise.all(ids.map((id) => tell(way, id, { price })))
}

async function arriveInShop(ids: readonly string[]): Promise<void> {
  await waitUntil(`${ids.length} prices in the Shop`, async () => {
    const { rows } = await way.shop.query<{ there: number }>(
      `SELECT count(*)::int AS there FROM public.orders WHERE id = ANY($1::uuid[]) AND concat_ws(' ', status, price::text, currency) = $2`,
      [ids, wanted],
    )
    return rows[0]!.there === ids.length
      ? true
      : Promise.reject(new Error(`${rows[0]!.there} there`))
  })
}

async function inTheInbox(ids: readonly string[]): Promise<void> {
  await waitUntil(`${ids.length} events in the inbox`, async () => {
    const { rows } = await way.ledger.query(
      'SELECT FROM status_inbox WHERE order_id = ANY($1::text[])',
      [ids],
    )
    return rows.length === ids.length
  })
}

onRedis('a Redis that loses every ring: the sweep finds them', async (t) => {
  await way.estate.process('applier').terminate()
  const ids = await submittedOrders(way, 50)
  await tellAll(ids)
  await inTheInbox(ids)
  await redis!.restart('kill9', { wipe: true })
  await way.estate.launch('applier')
  await arriveInShop(ids)
  const more = await submittedOrders(way, 50)
  const telling = tellAll(more)
  for (let n = 0; n < 5; n += 1) await redisCommand(redis!.url, 'FLUSHALL')
  await telling
  await arriveInShop(more)
  await waitUntil('nothing open', () => nothingOpen())
  await expectNothingThroughCrm(t, way)
})

onRedis('a Redis that hangs: the inbox is polled', async (t) => {
  redis!.pause()
  try {
    const ids = await submittedOrders(way, 20)
    await tellAll(ids)
    await arriveInShop(ids)
  } finally {
    redis!.resume()
  }
  await waitUntil('nothing open', () => nothingOpen())
  await expectNothingThroughCrm(t, way)
})

test.serial('a row that a seller holds holds up no other order', async (t) => {
  const held = await submittedOrder(way)
  const others = await submittedOrders(way, 20)
  const seller = new pg.Client({ connectionString: way.crm.options.connectionString })
  await seller.connect()
  try {
    await seller.query('BEGIN')
    await seller.query('SELECT FROM orders WHERE id = $1 FOR UPDATE', [held])
    await tellAll([held, ...others])
    await arriveInShop(others)
    await waitUntil('it to wait', async () => (await inInbox(way, held))[0] === 'waiting: row_held')
    await seller.query('COMMIT')
  } finally {
    await seller.end()
  }
  await arrivesInShop(way, held, wanted)
  t.deepEqual(await settledInInbox(way, held, 1), ['applied'])
})

test.serial(
  'an order that the Shop refuses waits with the reason, and holds up no other',
  async (t) => {
    const [refused, ...others] = await submittedOrders(way, 21)
    await way.estate.process('applier').terminate()
    await way.shop.query(`
    CREATE FUNCTION test_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$;
    CREATE TRIGGER test_refuse BEFORE UPDATE ON public.orders FOR EACH ROW WHEN (NEW.id = '${refused}') EXECUTE FUNCTION test_refuse()`)
    await tellAll([refused!, ...others])
    await inTheInbox([refused!, ...others])
    await way.estate.launch('applier')
    await arriveInShop(others)
    await waitUntil('the reason', async () =>
      (await inInbox(way, refused!))[0]?.startsWith('waiting: refused: not this one'),
    )
    await way.shop.query('DROP TRIGGER test_refuse ON public.orders')
    await arrivesInShop(way, refused!, wanted)
    t.deepEqual(await settledInInbox(way, refused!, 1), ['applied'])
  },
)

test.serial(
  'the Shop DB cuts everyone off and lets nobody in: applied when it is back',
  async (t) => {
    const name = new URL(way.estate.databases.shop).pathname.slice(1)
    const ids = await submittedOrders(way, 60)
    const before = tellAll(ids.slice(0, 30))
    const failed = hears(way.estate.process('applier'), /"event":"(ring_failed|round_failed)"/)
    await withClient(server.url, async (client) => {
      await client.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS false`)
      await client.query(
        'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1',
        [name],
      )
    })
    await before
    await tellAll(ids.slice(30))
    await inTheInbox(ids)
    await failed
    await withClient(server.url, (client) =>
      client.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS true`),
    )
    await arriveInShop(ids)
    await waitUntil('nothing open', () => nothingOpen())
    await expectNothingThroughCrm(t, way)
  },
)

for (const mode of ['immediate', 'kill9'] as const) {
  test.serial(`${mode} restart of the server of all, while statuses flow`, async (t) => {
    const ids = await submittedOrders(way, 300)
    const queue = [...ids]
    const flow = Promise.all(
      Array.from({ length: 4 }, async () => {
        for (let id = queue.shift(); id !== undefined; id = queue.shift()) await insist(id)
      }),
    )
    await waitUntil('some under way', async () => queue.length < 200)
    await server.restart(mode)
    await flow
    await arriveInShop(ids)
    await waitUntil('nothing open', () => nothingOpen())
    await expectNothingThroughCrm(t, way)
  })
}

async function nothingOpen(): Promise<boolean> {
  const { rows } = await way.ledger.query(
    `SELECT FROM status_inbox WHERE state IN ('open', 'waiting')`,
  )
  return rows.length === 0
}

/** The MES sends a message until it is confirmed: the same one, so it may come twice. */
async function insist(id: string): Promise<void> {
  const body = messageOf(id, { price })
  for (let n = 0; ; n += 1) {
    const by = mes
    try {
      await by.publish({
        exchange: 'mes.events',
        routingKey: 'order.price_calculated',
        body,
        properties: {},
      })
      return
    } catch {
      await delay(50)
      if (by === mes && !by.alive) {
        const opened = await way.broker
          .openSender(`mes-again-${id}-${n}`.slice(0, 50))
          .catch(() => undefined)
        if (opened !== undefined && by === mes) mes = opened
        else await opened?.close()
      }
    }
  }
}
