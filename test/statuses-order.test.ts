import { randomUUID } from 'node:crypto'

import test from 'ava'

import { pinStatusPaths } from '../adapters/bridge/status-paths.ts'
import {
  arrivesInShop,
  inInbox,
  inLedger,
  inShop,
  messageOf,
  sellerMoves,
  send,
  settledInInbox,
  startStatusesWay,
  type StatusesWay,
  submittedOrder,
  tell,
} from './statuses-fixture.ts'
import { waitUntil } from './wait-until.ts'

/** What a broker, a clock and a MES can do to the order of events: the row in the Shop ends as the last one that arrived says. */
let way: StatusesWay

test.before(async () => {
  way = await startStatusesWay({
    without: ['shop', 'crm', 'mes', 'proxy', 'relay', 'courier'],
  })
})
test.after.always(() => way?.stop())

async function approved(orderId: string, price = '10.00'): Promise<void> {
  await tell(way, orderId, { price })
  await arrivesInShop(way, orderId, `PRICE_CALCULATED ${price} EUR`)
  await sellerMoves(way, [orderId], 'approve')
}

async function messagesOf(orderId: string): Promise<{ state: string; reason: string | null }[]> {
  const { rows } = await way.ledger.query<{ state: string; reason: string | null }>(
    'SELECT state, reason FROM bridge_inbox WHERE order_id = $1 ORDER BY id',
    [orderId],
  )
  return rows
}

test.serial('what the broker doubles is one event, also when it does not say so', async (t) => {
  const id = await submittedOrder(way)
  const body = messageOf(id, { price: '12.30' })
  for (let n = 0; n < 3; n += 1) await send(way, 'order.price_calculated', body)
  await tell(way, id, { price: '13.00' })
  await send(way, 'order.price_calculated', body)
  await tell(way, id, { status: 'PRICE_CALCULATED' })
  t.is((await settledInInbox(way, id, 3)).length, 3)
  t.is(await inShop(way, id), 'PRICE_CALCULATED 13.00 EUR')
})

test.serial('the same body twice on purpose is two events', async (t) => {
  const id = await submittedOrder(way)
  const undated = (price: string): Promise<void> => tell(way, id, { price, occurredAt: undefined })
  for (const price of ['10.00', '12.00', '10.00']) await undated(price)
  await settledInInbox(way, id, 3)
  t.is(await inShop(way, id), 'PRICE_CALCULATED 10.00 EUR')
  await sellerMoves(way, [id], 'approve')
  for (let n = 0; n < 2; n += 1) await tell(way, id, { status: 'PACKAGING', occurredAt: undefined })
  t.deepEqual((await settledInInbox(way, id, 5)).slice(3), ['applied', 'superseded: repeated'])
})

// Delivered to the bridge before it died, all of them come again as redelivered, also those that it never looked at.
test.serial(
  'bodies A, B, A without a time: killed after each of them, none is lost and none doubled',
  async (t) => {
    for (const stored of [1, 2, 3]) {
      const id = await submittedOrder(way)
      await way.estate.process('bridge').terminate()
      for (const price of ['10.00', '12.00', '10.00'])
        await tell(way, id, { price, occurredAt: undefined })
      const dying = await way.estate.launch('bridge', {
        FAILPOINTS: `bridge.diverted=kill@${stored}`,
      })
      t.is((await dying.exited).signal, 'SIGKILL')
      await way.estate.launch('bridge')
      await tell(way, id, { status: 'PRICE_CALCULATED' })
      const verdicts = await waitUntil('all that was told is in the inbox', async () => {
        const states = await inInbox(way, id)
        return states.at(-1) === 'superseded: repeated' && states
      })
      t.is(verdicts.length, 4, `${stored} stored: ${verdicts.join(', ')}`)
      t.is(await inShop(way, id), 'PRICE_CALCULATED 10.00 EUR', `${stored} stored`)
    }
  },
)

test.serial('a history that arrives backwards ends where the MES ended', async (t) => {
  const id = await submittedOrder(way)
  for (const status of ['SHIPPED', 'PACKAGING', 'MANUFACTURING_COMPLETED', 'MANUFACTURING_STARTED'])
    await tell(way, id, { status })
  await waitUntil('all of them to wait', async () => {
    const verdicts = await inInbox(way, id)
    return verdicts.length === 4 && verdicts.every((each) => each === 'waiting: not_approved')
  })
  t.is(await inShop(way, id), 'SUBMITTED')
  await tell(way, id, { price: '12.30' })
  await arrivesInShop(way, id, 'PRICE_CALCULATED 12.30 EUR')
  t.is(await sellerMoves(way, [id], 'approve'), 1)
  await settledInInbox(way, id, 5)
  t.is(await inShop(way, id), 'SHIPPED 12.30 EUR')
  t.is(await sellerMoves(way, [id], 'close'), 1)
})

test.serial("a status before the courier's confirm is the confirm", async (t) => {
  const id = await submittedOrder(way)
  // The courier lives, so its silence proves nothing, and the MES has no row that anyone could find.
  const courier = await way.broker.openSender('courier.under.test')
  await way.ledger.query(
    `UPDATE order_ledger SET state = 'in_doubt', delivered_at = NULL, sender = $2, sending_at = clock_timestamp(), doubt_at = clock_timestamp()
     WHERE order_id = $1`,
    [id, courier.name],
  )
  await tell(way, id, { price: '12.30' })
  await arrivesInShop(way, id, 'PRICE_CALCULATED 12.30 EUR')
  await waitUntil('the doubt settled', async () => {
    const { rows } = await way.ledger.query<{ state: string }>(
      'SELECT state FROM order_ledger WHERE order_id = $1',
      [id],
    )
    return rows[0]?.state === 'delivered'
  })
  const { rows } = await way.ledger.query<{ detail: unknown }>(
    `SELECT detail FROM order_event WHERE order_id = $1 AND hop = 'in doubt'`,
    [id],
  )
  t.deepEqual(rows, [
    { detail: { settled: 'delivered', evidence: 'the MES sent order.price_calculated' } },
  ])
  await courier.close()
})

test.serial('of an unknown order it goes to CRM, and is counted', async (t) => {
  const id = randomUUID()
  await tell(way, id, { price: '1.00' })
  await tell(way, id, { status: 'PACKAGING' })
  await waitUntil('both settled', async () => {
    const messages = await messagesOf(id)
    return messages.length === 2 && messages.every(({ state }) => state !== 'received')
  })
  const went = { state: 'forwarded', reason: 'unknown_order' }
  t.deepEqual(await messagesOf(id), [went, went])
  t.deepEqual(await inInbox(way, id), [])
  // Known from now on: CRM has begun it, so CRM ends it.
  await inLedger(way, [id])
  await tell(way, id, { status: 'SHIPPED' })
  await waitUntil('the third', async () => (await messagesOf(id))[2]?.state === 'forwarded')
  const { rows } = await way.ledger.query<{ path: string; rule: string }>(
    `SELECT status_path AS path, status_reason ->> 'rule' AS rule FROM order_ledger WHERE order_id = $1`,
    [id],
  )
  t.deepEqual(rows, [{ path: 'legacy', rule: 'CRM had statuses of it before' }])
})

test.serial('of an order that is not in the Shop DB yet it waits for CRM to make it', async (t) => {
  const id = randomUUID()
  await send(
    way,
    'order.created',
    Buffer.from(
      JSON.stringify({
        orderId: id,
        source: 'partner',
        status: 'SUBMITTED',
        occurredAt: '2026-01-01T00:00:00.000Z',
        partner: 'acme',
        externalId: id,
        material: 'PLA',
        quantity: 1,
        model: { key: 'k', sha256: 'a', bytes: 1 },
      }),
    ),
  )
  await tell(way, id, { price: '12.30' })
  await waitUntil('it to wait', async () => (await inInbox(way, id))[0] === 'waiting: not_in_shop')
  t.is(await inShop(way, id), 'no row')
  const crm = await way.estate.launch('crm')
  await arrivesInShop(way, id, 'PRICE_CALCULATED 12.30 EUR')
  t.deepEqual(await settledInInbox(way, id, 1), ['applied'])
  await crm.terminate()
})

test.serial('1 000 events of one order are one write', async (t) => {
  const id = await submittedOrder(way)
  await way.shop.query(`
    CREATE TABLE test_writes (order_id uuid, status text);
    CREATE FUNCTION test_count_writes() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
      $$ BEGIN INSERT INTO public.test_writes VALUES (NEW.id, NEW.status); RETURN NULL; END $$;
    CREATE TRIGGER test_count_writes AFTER UPDATE ON public.orders FOR EACH ROW EXECUTE FUNCTION test_count_writes()`)
  await way.estate.process('applier').terminate()
  await Promise.all(Array.from({ length: 1000 }, (_, n) => tell(way, id, { price: `${n + 1}.00` })))
  await waitUntil('all in the inbox', async () => (await inInbox(way, id)).length === 1000)
  await way.estate.launch('applier')
  const verdicts = await settledInInbox(way, id, 1000)
  // The first has the status, the last the price.
  t.deepEqual(
    verdicts.flatMap((each, at) => (each === 'applied' ? [at] : [])),
    [0, 999],
  )
  t.is(await inShop(way, id), 'PRICE_CALCULATED 1000.00 EUR')
  const { rows } = await way.shop.query('SELECT status FROM test_writes WHERE order_id = $1', [id])
  t.deepEqual(rows, [{ status: 'PRICE_CALCULATED' }])
})

test.serial('a price after the last status counts, a status after the end does not', async (t) => {
  const id = await submittedOrder(way)
  await approved(id)
  await tell(way, id, { status: 'SHIPPED' })
  await arrivesInShop(way, id, 'SHIPPED 10.00 EUR')
  await tell(way, id, { price: '11.00' })
  await arrivesInShop(way, id, 'SHIPPED 11.00 EUR')
  await sellerMoves(way, [id], 'close')
  for (const status of ['PACKAGING', 'SHIPPED']) await tell(way, id, { status })
  await tell(way, id, { price: '11.50' })
  t.deepEqual((await settledInInbox(way, id, 6)).slice(2), [
    'backward: the order is SHIPPED',
    'backward: the order is CLOSED',
    'backward: the order is CLOSED',
    'backward: the order is CLOSED',
  ])
  t.is(await inShop(way, id), 'CLOSED 11.50 EUR')
})

test.serial(
  'what the MES may not say is parked with its reason, and holds up nothing',
  async (t) => {
    const id = await submittedOrder(way)
    await tell(way, id, { status: 'CLOSED' })
    await tell(way, id, { status: 'MANUFACTURING_APPROVED' })
    await tell(way, id, { status: 'SUBMITTED' })
    await tell(way, id, { status: 'LOST_IN_TRANSIT' })
    await send(way, 'order.status_changed', Buffer.from(`{"orderId":"${id}","status":{"x":1}}`))
    await tell(way, id, { price: '12.30' })
    t.deepEqual(await settledInInbox(way, id, 6), [
      'parked: wrong_setter',
      'parked: wrong_setter',
      'parked: wrong_setter',
      'parked: unknown_status',
      'parked: no_status',
      'applied',
    ])
    t.is(await inShop(way, id), 'PRICE_CALCULATED 12.30 EUR')
  },
)

test.serial('prices keep every digit, and what the Shop would round is parked', async (t) => {
  const exact = { '12.30': '12.30', '0.10': '0.10', '9999999999.99': '9999999999.99', '7': '7.00' }
  for (const [told, wanted] of Object.entries(exact)) {
    const id = await submittedOrder(way)
    await tell(way, id, { price: told })
    await arrivesInShop(way, id, `PRICE_CALCULATED ${wanted} EUR`)
  }
  const id = await submittedOrder(way)
  await tell(way, id, { price: '12.30' })
  const inexact = ['12.345', '10000000000.00', '-1.00', '1e3', '"1,50"', 'null']
  for (const price of inexact) await tell(way, id, { price })
  t.deepEqual(await settledInInbox(way, id, inexact.length + 1), [
    'applied',
    ...inexact.map(() => 'parked: price_unreadable'),
  ])
  t.is(await inShop(way, id), 'PRICE_CALCULATED 12.30 EUR')
})

test.serial('clocks say nothing: the order of arrival does', async (t) => {
  const now = Date.now()
  const hour = 3_600_000
  const times = {
    'an hour ahead, then right, then an hour behind': [hour, 0, -hour].map((by) =>
      new Date(now + by).toISOString(),
    ),
    'the night in which an hour comes twice': [
      '2026-10-25T02:59:59+02:00',
      '2026-10-25T02:00:00+01:00',
      '2026-10-25T02:30:00',
    ],
    'the night in which an hour is missing': [
      '2026-03-29T03:00:00+02:00',
      '2026-03-29T02:30:00+01:00',
      '2026-03-29T01:59:59+01:00',
    ],
    'no times at all': ['yesterday', '0000-00-00T00:00:00Z', '+275760-09-13T00:00:00.001Z'],
    'the ends of time': ['9999-12-31T23:59:59Z', '1970-01-01T00:00:00Z', '-000001-01-01T00:00:00Z'],
  }
  for (const [what, at] of Object.entries(times)) {
    const id = await submittedOrder(way)
    await approved(id)
    await tell(way, id, { price: '11.00', occurredAt: at[0] })
    await tell(way, id, { status: 'MANUFACTURING_STARTED', occurredAt: at[1] })
    await tell(way, id, { price: '12.00', occurredAt: at[1] })
    await tell(way, id, { status: 'PACKAGING', occurredAt: at[2] })
    await settledInInbox(way, id, 5)
    t.is(await inShop(way, id), 'PACKAGING 12.00 EUR', what)
  }
})

// The bridge could read these, and could not read them once more: it tried for ever.
test.serial('a byte order mark and absurd nesting hold up nothing', async (t) => {
  const [id, other] = [await submittedOrder(way), await submittedOrder(way)]
  const mark = Buffer.from([0xef, 0xbb, 0xbf])
  await send(
    way,
    'order.price_calculated',
    Buffer.concat([mark, messageOf(id, { price: '12.30' })]),
  )
  await sellerMovesWhenPriced(id)
  const nested = `${'['.repeat(50_000)}${']'.repeat(50_000)}`
  const deep = `{"orderId":"${id}","status":"PACKAGING","x":${nested}}`
  await send(way, 'order.status_changed', Buffer.from(deep))
  await tell(way, other, { price: '7.70' })
  await arrivesInShop(way, other, 'PRICE_CALCULATED 7.70 EUR')
  await arrivesInShop(way, id, 'PACKAGING 12.30 EUR')
  t.deepEqual(await settledInInbox(way, id, 2), ['applied', 'applied'])
})

async function sellerMovesWhenPriced(id: string): Promise<void> {
  await arrivesInShop(way, id, 'PRICE_CALCULATED 12.30 EUR')
  await sellerMoves(way, [id], 'approve')
}

// A bridge that was frozen between its look and its pin took the missing answer for `legacy`, and CRM got the status.
test.serial('a path that another bridge has pinned is the path', async (t) => {
  const id = await submittedOrder(way)
  t.deepEqual([...(await pinStatusPaths(way.ledger, [id]))], [[id, 'direct']])
  await way.move('statuses-direct', 0)
  t.deepEqual([...(await pinStatusPaths(way.ledger, [id]))], [[id, 'direct']])
  await way.move('statuses-direct', 10_000)
})
