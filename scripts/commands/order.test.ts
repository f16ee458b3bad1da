import { randomUUID } from 'node:crypto'

import test from 'ava'

import { startEstateDatabases } from '../../test/estate-databases.ts'
import { runStrangler } from '../../test/run-strangler.ts'

const estate = await startEstateDatabases()
const { ledger, urls } = estate
test.after.always(() => estate.stop())

const strangler = (args: readonly string[]) =>
  runStrangler(
    args,
    { LEDGER_URL: urls.ledger, SHOP_URL: urls.shop, MES_URL: urls.mes },
    import.meta.dirname,
  )

async function accept(id: string): Promise<void> {
  await ledger.query(
    `INSERT INTO order_ledger (order_id, origin, source_ref, path, path_epoch, path_reason, state, routing_key, body, body_sha256,
       submitted_at, accepted_at, delivered_at)
     VALUES ($1, 'shop', $1, 'legacy', 3, '{"rule": "share", "share": 1000, "bucket": 4170}', 'delivered', 'order.submitted', '', '',
       now() - interval '2.5 s', now() - interval '2 s', now() - interval '1.5 s')`,
    [id],
  )
}

test('the way back of its statuses, each from the bridge to where it ends', async (t) => {
  const id = randomUUID()
  await accept(id)
  const without = await strangler(['order', id])
  t.regex(without.out, /statuses: none yet/)
  await ledger.query(
    `UPDATE order_ledger SET status_path = 'direct', status_epoch = 2, status_reason = '{"rule": "share", "share": 5000, "bucket": 12}'`,
  )
  const tell = async (n: number, key: string, status: string, agoMs: number): Promise<void> => {
    await ledger.query(
      `INSERT INTO bridge_inbox (queue, msg_key, order_id, routing_key, exchange, status, state, body, properties, redelivered, received_at, settled_at)
       VALUES ('crm.events', $1, $2, $3, 'mes.events', $4, 'diverted', '', '{}', false,
         now() - $5::float8 * interval '1 ms', now() - ($5::float8 - 10) * interval '1 ms')`,
      [Buffer.from([n]), id, key, status, agoMs],
    )
  }
  await tell(1, 'order.price_calculated', 'PRICE_CALCULATED', 900)
  await tell(2, 'order.status_changed', 'MANUFACTURING_STARTED', 500)
  await ledger.query(
    `INSERT INTO status_inbox (id, order_id, status, price, currency, received_at, state, reason, tries, settled_at)
     SELECT id, order_id, status, CASE WHEN status = 'PRICE_CALCULATED' THEN '12.30' END, 'EUR', settled_at,
       CASE WHEN status = 'PRICE_CALCULATED' THEN 'applied' ELSE 'waiting' END,
       CASE WHEN status = 'PRICE_CALCULATED' THEN NULL ELSE 'not_approved' END, 4,
       CASE WHEN status = 'PRICE_CALCULATED' THEN settled_at + interval '30 ms' END
     FROM bridge_inbox`,
  )
  const said = await strangler(['order', id])
  t.regex(said.out, /statuses direct: epoch 2, rule "share", share 50 %, bucket 12 of 10000/)
  t.regex(said.out, /PRICE_CALCULATED +12\.30 +Shop +10\.0 ms +30\.0 ms +40\.0 ms +applied/)
  t.regex(
    said.out,
    /MANUFACTURING_STARTED +- +Shop .* now .*waiting: CRM has not approved.*4 tries/,
  )
  const found: {
    hops: { name: string; ms?: number }[]
    endToEndMs: number
    wayBack: { hops: { ms?: number }[]; endToEndMs: number }[]
  } = JSON.parse((await strangler(['order', id, '--json'])).out)
  t.is(found.hops.at(-1)!.name, 'status inbox')
  for (const chain of [found, ...found.wayBack]) {
    const sum = chain.hops.reduce((total, hop) => total + (hop.ms ?? 0), 0)
    t.true(Math.abs(sum - chain.endToEndMs) < 1)
    t.true(chain.hops.every(({ ms }) => ms === undefined || ms >= 0))
  }
})
