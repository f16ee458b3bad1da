import { randomUUID } from 'node:crypto'

import test from 'ava'

import { withClient } from '../estate/postgres-server.ts'
import { startEstateDatabases, submitOrder } from '../test/estate-databases.ts'
import { runStrangler } from '../test/run-strangler.ts'
import type { Said } from '../test/run-strangler.ts'

const estate = await startEstateDatabases()
const { ledger, shop, mes, urls } = estate
test.after.always(() => estate.stop())

const databases = { LEDGER_URL: urls.ledger, SHOP_URL: urls.shop, MES_URL: urls.mes }
const withBroker = { ...databases, BROKER_URL: urls.broker }
const strangler = (args: readonly string[]): Promise<Said> => runStrangler(args, withBroker, '/')

test.serial(
  'reconcile --redrive: an approval that got lost is in the MES queue again, once',
  async (t) => {
    const id = randomUUID()
    const at = "now() - interval '5 s'"
    await submitOrder(shop, id)
    await shop.query(
      `UPDATE public.orders SET status = 'MANUFACTURING_APPROVED', price = 12.5, updated_at = ${at} WHERE id = $1`,
      [id],
    )
    await shop.query(`UPDATE strangler.outbox SET path = 'direct', at = ${at}`)
    await ledger.query(
      `INSERT INTO order_ledger (order_id, origin, source_ref, path, path_epoch, path_reason, state, routing_key, body, body_sha256,
       submitted_at, accepted_at, rung_at, delivered_at)
     VALUES ($1, 'shop', $1, 'direct', 1, '{}', 'delivered', 'order.submitted', '{}', '', ${at}, ${at}, ${at}, ${at})`,
      [id],
    )
    await mes.query(
      `INSERT INTO public.orders (order_id, source, status, model_key, model_sha256, model_bytes, material, quantity, price, received_at, updated_at)
     VALUES ($1, 'shop', 'PRICE_CALCULATED', '', '', 1, 'PLA', 1, 12.50, ${at}, ${at})`,
      [id],
    )
    const reconcile = ['reconcile', '--watermark', '1s', '--redrive', '--json']
    const without = await runStrangler(reconcile, databases, '/')
    t.is(without.code, 2)
    t.regex(without.err, /BROKER_URL/)
    t.is((await strangler([...reconcile, '--dry-run'])).code, 1)
    const done = await strangler([...reconcile, '--who', 'ann'])
    t.is(done.code, 0, done.err)
    t.like(JSON.parse(done.out).differences[0], { kind: 'stuck', orderId: id, redriven: 'done' })
    await withClient(urls.broker, async (client) => {
      const { rows } = await client.query<{ routing_key: string; body: Buffer }>(
        `SELECT routing_key, body FROM amq.message WHERE queue = 'mes.orders'`,
      )
      t.is(rows.length, 1)
      t.is(rows[0]!.routing_key, 'order.approved')
      t.like(JSON.parse(rows[0]!.body.toString()), {
        orderId: id,
        status: 'MANUFACTURING_APPROVED',
      })
    })
    t.regex((await strangler(['order', id])).out, /redrive, by ann/)
  },
)

test.serial(
  'bindings that are not what the ledger says: bridge status and doctor tell',
  async (t) => {
    const status = await strangler(['bridge', 'status', '--json'])
    t.is(status.code, 0, status.err)
    t.deepEqual(
      JSON.parse(status.out).bridges.map(
        (each: { queue: string; state: string }) => `${each.queue} ${each.state}`,
      ),
      ['mes.orders absent', 'crm.events absent'],
    )
    await ledger.query(
      `INSERT INTO bridge (queue, state, who) VALUES ('mes.orders', 'inserted', 'nobody')`,
    )
    const drifted = await strangler(['bridge', 'status'])
    t.is(drifted.code, 1)
    t.regex(drifted.out, /BINDINGS DIFFER/)
    const ill = await strangler(['doctor'])
    t.is(ill.code, 1)
    t.regex(ill.out, /UNSAFE +bindings of mes\.orders/)
    t.regex(ill.out, /UNSAFE +bridge mes\.orders +no bridge process is attached/)
  },
)

for (const away of [
  'postgres://nobody:geheim@127.0.0.1:9/broker',
  'amqp://nobody:geheim@127.0.0.1:9/estate',
]) {
  test.serial(
    `a broker that does not answer (${new URL(away).protocol}) is unknown, not empty`,
    async (t) => {
      await ledger.query(
        `INSERT INTO bridge (queue, state, who) VALUES ('mes.orders', 'inserted', 'nobody')
       ON CONFLICT (queue) DO UPDATE SET state = 'inserted'`,
      )
      const without = { ...databases, BROKER_URL: away }
      const json = await runStrangler(['bridge', 'status', '--json'], without, '/')
      t.is(json.code, 3, json.err)
      t.like(JSON.parse(json.out).bridges[0], {
        state: 'inserted',
        consumer: 'unknown',
        depth: 'unknown',
        legacyDepth: 'unknown',
        drift: 'unknown',
      })
      const said = await runStrangler(['bridge', 'status'], without, '/')
      t.is(said.code, 3)
      t.regex(said.out, /THE BROKER WAS NOT READ/)
      t.notRegex(said.out, /NO bridge process/)
      const doctor = await runStrangler(['doctor'], without, '/')
      t.regex(doctor.out, /unread +bindings of mes\.orders/)
      t.notRegex(doctor.out, /UNSAFE +bridge mes\.orders/)
      t.notRegex(json.out + json.err + said.out + doctor.out + doctor.err, /geheim/)
    },
  )
}

function as(name: string, url: string): string {
  const mine = new URL(url)
  mine.username = name
  mine.password = name
  return mine.href
}

test.serial(
  'a login of the group strangler_operator can do all but change the databases, and is told who may',
  async (t) => {
    await ledger.query(
      `CREATE ROLE ann LOGIN PASSWORD 'ann' IN ROLE strangler_operator, strangler_mes_reader`,
    )
    await ledger.query('TRUNCATE bridge')
    const hers = {
      LEDGER_URL: as('ann', urls.ledger),
      SHOP_URL: as('ann', urls.shop),
      MES_URL: as('ann', urls.mes),
      BROKER_URL: urls.broker,
    }
    const id = randomUUID()
    await ledger.query(
      `INSERT INTO order_ledger (order_id, origin, source_ref, path, path_epoch, path_reason, state, routing_key, body, body_sha256,
       submitted_at, accepted_at, rung_at, delivered_at)
     SELECT $1, 'shop', $1, 'direct', 1, '{}', 'delivered', 'order.submitted', '{}', '', at, at, at, at FROM (SELECT now() - interval '1 hour' AS at) one`,
      [id],
    )
    for (const [code, ...args] of [
      [0, 'advance', 'orders-direct', '--share', '10%', '--force', '--why', 'a test'],
      [0, 'status'],
      // The order that the MES does not have is named in the receipt.
      [1, 'rollback', 'orders-direct', '--why', 'a test', '--drain', '0s', '--settle', '0s'],
      [0, 'order', id],
      [0, 'bottleneck', '--since', '2h'],
      [0, 'reconcile', '--redrive'],
      [0, 'bridge', 'status'],
      // The order that was redriven waits, and no courier runs.
      [1, 'doctor'],
      [2, 'migrate'],
      [2, 'mes-guard', 'install'],
    ] as const) {
      const said = await runStrangler(args, hers, '/')
      t.is(said.code, code, `${args.join(' ')}: ${said.err}${said.out}`)
      if (args[0] === 'doctor') t.regex(said.out, /ok +ledger migrations +all present/)
      if (args[0] === 'migrate') t.regex(said.err, /LEDGER_URL must be the URL of the owner/)
      if (args[0] === 'mes-guard') t.regex(said.err, /MES_URL must be the URL of the owner/)
    }
  },
)
