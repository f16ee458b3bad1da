import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'

import test from 'ava'
import type { ExecutionContext } from 'ava'

import { StranglerError } from '../../contracts/errors.ts'
import type { NodeProcess } from '../../estate/child-process.ts'
import { hasServer, testWithout } from '../../test/optional-server.ts'
import type { Broker, Sender } from '../broker/port.ts'
import { bridgeStatus, insertBridge, removeBridge } from './insert-bridge.ts'
import { LegacyReader, legacyPublish, startTestBed, until } from './test-bed.ts'
import type { TestBed } from './test-bed.ts'

suite('postgres')
if (hasServer('rabbitmq-server')) suite('rabbitmq')
else testWithout('rabbitmq-server', 'the same suite')

function suite(kind: Broker['kind']): void {
  let bed: TestBed
  let sender: Sender
  let mes: LegacyReader
  let crm: LegacyReader
  let process: NodeProcess

  const change = { who: 'test' }
  const queues = ['mes.orders', 'crm.events']
  const inserted = async (): Promise<void> => {
    const { broker, ledger } = bed
    await Promise.all(queues.map((queue) => insertBridge({ broker, ledger, queue, ...change })))
  }
  const inbox = async (
    orderId: string,
  ): Promise<{ state: string; reason: string | null; key: string }[]> => {
    const { rows } = await bed.ledger.query<{ state: string; reason: string | null; key: string }>(
      'SELECT state, reason, routing_key AS key FROM bridge_inbox WHERE order_id = $1 ORDER BY id',
      [orderId],
    )
    return rows
  }
  const ledgerRow = async (orderId: string): Promise<Record<string, unknown> | undefined> => {
    const { rows } = await bed.ledger.query<Record<string, unknown>>(
      'SELECT origin, source_ref, path, state, delivered_at FROM order_ledger WHERE order_id = $1',
      [orderId],
    )
    return rows[0]
  }
  const rowsInMes = async (orderIds: readonly string[]): Promise<number> => {
    const { rows } = await bed.databases.mes.query<{ n: number }>(
      'SELECT count(*)::int AS n FROM orders WHERE order_id = ANY($1::uuid[])',
      [orderIds],
    )
    return rows[0]!.n
  }
  const settled = (orderId: string, count: number): Promise<void> =>
    until(async () => {
      const rows = await inbox(orderId)
      return (
        rows.length === count && rows.every(({ state }) => state !== 'received' && state !== 'held')
      )
    })
  const serial = (title: string, run: (t: ExecutionContext) => Promise<void>): void =>
    test.serial(`${kind}: ${title}`, async (t) => {
      t.timeout(110_000)
      await run(t)
    })

  test.before(`${kind}: start`, async (t) => {
    t.timeout(110_000)
    bed = await startTestBed(kind)
    sender = await bed.broker.openSender('legacy')
    mes = new LegacyReader(bed, 'mes.orders')
    crm = new LegacyReader(bed, 'crm.events')
  })
  test.after.always(`${kind}: stop`, async () => {
    await Promise.all([mes?.close(), crm?.close()])
    await sender?.close()
    await bed?.stop()
  })

  serial('a bridge that nobody would serve is not put in', async (t) => {
    const { broker, ledger } = bed
    const refused = await t.throwsAsync(
      insertBridge({ broker, ledger, queue: 'mes.orders', ...change, waitForBridgeMs: 300 }),
      { instanceOf: StranglerError },
    )
    t.is(refused?.code, 'refused')
    const status = await bridgeStatus({ broker, ledger, queue: 'mes.orders' })
    t.is(status.state, 'absent')
    t.is(status.topologyChanges, 0)
    t.deepEqual(status.drift, [])
  })

  serial('insertion and removal under flow lose nothing and double no order', async (t) => {
    process = await bed.startBridge()
    const { broker, ledger } = bed
    const orders: string[] = []
    const moves: string[] = []
    const stop = new AbortController()
    const flow = (async () => {
      while (!stop.signal.aborted) {
        const batch = Array.from({ length: 10 }, () => randomUUID())
        orders.push(...batch)
        await Promise.all(batch.map((id) => legacyPublish(sender, 'order.submitted', id)))
        const event = randomUUID()
        moves.push(event)
        await legacyPublish(sender, 'order.status_changed', event)
        // RabbitMQ proves an order absent only by an empty queue, so the MES must keep up with what comes.
        if (kind === 'rabbitmq') await delay(25)
      }
    })()
    await until(() => orders.length > 200)
    await inserted()
    const status = await bridgeStatus({ broker, ledger, queue: 'mes.orders' })
    t.is(status.state, 'inserted')
    t.true(status.consumer)
    t.deepEqual(status.drift, [])
    t.is(status.topologyChanges, 1)
    const before = orders.length
    await until(() => orders.length > before + 300)
    const progress: unknown[] = []
    for (const queue of queues) {
      await removeBridge({ broker, ledger, queue, ...change, onProgress: (p) => progress.push(p) })
    }
    t.true(progress.length > 0)
    const after = orders.length
    await until(() => orders.length > after + 100)
    stop.abort()
    await flow
    await until(async () => (await rowsInMes(orders)) >= orders.length)
    t.is(await rowsInMes(orders), orders.length)
    await until(() => moves.every((id) => crm.of(id).length > 0))
    const twice = moves.filter((id) => crm.of(id).length > 1).length
    t.true(kind === 'postgres' ? twice === 0 : twice < 20)
    const { rows } = await ledger.query<{ n: number; reason: string | null }>(
      `SELECT reason, count(*)::int AS n FROM bridge_inbox WHERE queue = 'mes.orders' GROUP BY reason ORDER BY reason`,
    )
    t.log(
      `${orders.length} orders, ${moves.length} events (${twice} twice); inbox by reason: ${JSON.stringify(rows)}`,
    )
    const gone = await bridgeStatus({ broker, ledger, queue: 'mes.orders' })
    t.is(gone.state, 'absent')
    t.is(gone.topologyChanges, 2)
    t.deepEqual(gone.drift, [])
    // A courier may still be sending through it.
    const late = randomUUID()
    await sender.publish({
      exchange: 'strangler.forward.crm.events',
      routingKey: 'order.status_changed',
      body: Buffer.from(JSON.stringify({ orderId: late })),
      properties: {},
    })
    await until(() => crm.of(late).length === 1)
  })

  serial('what passes keeps its bytes, key and properties; a header is added', async (t) => {
    await inserted()
    await inserted()
    const orderId = randomUUID()
    const body = Buffer.from(
      `{ "n":12345678901234567890,"orderId":"${orderId}", "occurredAt":"2026-01-01T00:00:00Z" }`,
    )
    const properties = {
      contentType: 'application/json',
      correlationId: 'c',
      timestamp: 1_700_000_000,
      headers: { 'x-sender': 'mes', nested: { list: ['a', true] } },
    }
    await sender.publish({
      exchange: 'mes.events',
      routingKey: 'order.status_changed',
      body,
      properties,
    })
    await until(() => crm.of(orderId).length === 1)
    const [got] = crm.of(orderId)
    t.deepEqual(got!.body, body)
    t.is(got!.routingKey, 'order.status_changed')
    t.deepEqual(got!.properties, {
      ...properties,
      deliveryMode: 2,
      headers: { ...properties.headers, 'x-strangler-order': orderId },
    })
    t.is(got!.exchange, 'strangler.forward.crm.events')
  })

  serial('a legacy order is delivered in the ledger when it was forwarded', async (t) => {
    const orderId = await submitInShop(bed)
    await legacyPublish(sender, 'order.submitted', orderId)
    await settled(orderId, 1)
    const row = await ledgerRow(orderId)
    t.like(row, { origin: 'shop', path: 'legacy', state: 'delivered' })
    t.is(await rowsInMes([orderId]), 1)
  })

  serial(
    'a direct order is not submitted by CRM, but CRM still approves and closes it',
    async (t) => {
      await bed.databases.shop.query(
        `INSERT INTO strangler.route (phase, epoch, share, seed) VALUES ('orders-direct', 1, 10000, 1)`,
      )
      // The ledger does not know it yet: CRM was faster than the relay.
      const orderId = await submitInShop(bed)
      await bed.databases.shop.query('DELETE FROM strangler.route')
      for (const key of ['order.submitted', 'order.approved', 'order.closed']) {
        await legacyPublish(sender, key, orderId)
      }
      await settled(orderId, 3)
      t.deepEqual(await inbox(orderId), [
        { key: 'order.submitted', state: 'suppressed', reason: 'duplicate_suppressed' },
        { key: 'order.approved', state: 'forwarded', reason: null },
        { key: 'order.closed', state: 'forwarded', reason: null },
      ])
      t.like(await ledgerRow(orderId), { path: 'direct', state: 'accepted' })
      await until(() => mes.of(orderId).length === 2)
      t.is(await rowsInMes([orderId]), 0)
    },
  )

  serial('an order is submitted once, and one that nobody captured is legacy', async (t) => {
    const orderId = randomUUID()
    await legacyPublish(sender, 'order.submitted', orderId, { try: 1 })
    await legacyPublish(sender, 'order.submitted', orderId, { try: 2 })
    await settled(orderId, 2)
    await legacyPublish(sender, 'order.submitted', orderId, { try: 3 })
    await settled(orderId, 3)
    t.deepEqual(
      (await inbox(orderId)).map(({ reason }) => reason),
      [null, 'submitted_twice', 'submitted_twice'],
    )
    t.is(await rowsInMes([orderId]), 1)
    t.like(await ledgerRow(orderId), { path: 'legacy', state: 'delivered' })
  })

  serial('a partner order opens its ledger row, and reaches CRM once', async (t) => {
    const [first, second] = [randomUUID(), randomUUID()]
    const partner = { source: 'partner', partner: 'acme', externalId: randomUUID() }
    await legacyPublish(sender, 'order.created', first, partner)
    await legacyPublish(sender, 'order.created', first, { ...partner, again: true })
    await legacyPublish(sender, 'order.created', second, partner)
    await settled(first, 2)
    await settled(second, 1)
    t.like(await ledgerRow(first), {
      origin: 'partner:acme',
      source_ref: partner.externalId,
      path: 'legacy',
      state: 'delivered',
    })
    t.like(await ledgerRow(second), { origin: 'partner:acme', source_ref: second })
    await until(() => crm.of(second).length === 1)
    t.is(crm.of(first).filter(({ routingKey }) => routingKey === 'order.created').length, 1)
    t.is((await inbox(first))[1]!.reason, 'created_twice')
  })

  serial('what nobody can read goes on unchanged, each time it was meant', async (t) => {
    const body = Buffer.from(`not json ${randomUUID()}`)
    for (let n = 0; n < 2; n += 1) {
      await sender.publish({
        exchange: 'mes.events',
        routingKey: 'order.created',
        body,
        properties: {},
      })
    }
    await until(() => crm.got.filter((delivery) => delivery.body.equals(body)).length === 2)
    const { rows } = await bed.ledger.query(
      'SELECT state, reason, body FROM bridge_inbox WHERE body = $1',
      [body],
    )
    await until(
      async () => (await bridgeStatus({ ...bed, queue: 'crm.events' })).messages.open === 0,
    )
    t.is(rows.length, 2)
  })

  serial('a status may recur without time or id', async (t) => {
    const orderId = randomUUID()
    for (let n = 0; n < 3; n += 1) {
      await legacyPublish(sender, 'order.status_changed', orderId, {
        occurredAt: undefined,
        status: 'PACKAGING',
      })
    }
    await settled(orderId, 3)
    t.is((await inbox(orderId))[0]!.reason, 'unknown_order')
    await until(() => crm.of(orderId).length === 3)
    t.is(crm.of(orderId).length, 3)
  })

  serial(
    'what the broker can not route is parked, and goes on when a person gives it back',
    async (t) => {
      const onward = { exchange: 'strangler.forward.crm.events', queue: 'crm.events', pattern: '#' }
      await bed.broker.rebind({ add: [], remove: [onward] })
      const orderId = randomUUID()
      await legacyPublish(sender, 'order.status_changed', orderId)
      await settled(orderId, 1)
      const [row] = await inbox(orderId)
      t.is(row!.state, 'parked')
      t.regex(row!.reason ?? '', /message_unroutable/)
      const { drift, messages } = await bridgeStatus({ ...bed, queue: 'crm.events' })
      t.true(drift.length === 1 && messages.parked === 1)
      await bed.broker.rebind({ add: [onward], remove: [] })
      await bed.ledger.query(
        `UPDATE bridge_inbox SET state = 'held', reason = 'test', settled_at = NULL WHERE order_id = $1 AND state = 'parked'`,
        [orderId],
      )
      await until(() => crm.of(orderId).length === 1)
      await settled(orderId, 1)
      t.like((await inbox(orderId))[0], { state: 'forwarded', reason: 'test' })
    },
  )

  serial('a legacy service that binds its queue anew is seen', async (t) => {
    const past = { exchange: 'crm.orders', queue: 'mes.orders', pattern: 'order.closed' }
    await bed.broker.rebind({ add: [past], remove: [] })
    t.deepEqual((await bridgeStatus({ ...bed, queue: 'mes.orders' })).drift, [
      'past the bridge: crm.orders -order.closed-> mes.orders',
    ])
    await bed.broker.rebind({ add: [], remove: [past] })
  })

  for (const point of ['bridge.received', 'bridge.forwarded', 'bridge.settled']) {
    // The loss or the duplicate this prevents: the process dies between two commits that belong together.
    serial(`kill -9 at ${point}: every order once, no event lost`, async (t) => {
      await process.terminate()
      const orders = Array.from({ length: 5 }, () => randomUUID())
      for (const id of orders) await legacyPublish(sender, 'order.submitted', id)
      const dying = await bed.startBridge({ FAILPOINTS: `${point}=kill` })
      await dying.exited
      process = await bed.startBridge()
      for (const id of orders) await settled(id, 1)
      await until(async () => (await rowsInMes(orders)) >= orders.length)
      t.is(await rowsInMes(orders), orders.length)
      for (const id of orders) t.like(await ledgerRow(id), { state: 'delivered' })
      const reasons = await Promise.all(orders.map(async (id) => (await inbox(id))[0]!.reason))
      t.log([...new Set(reasons)].join(', '))

      await process.terminate()
      const event = randomUUID()
      await legacyPublish(sender, 'order.price_calculated', event)
      await (
        await bed.startBridge({ FAILPOINTS: `${point}=kill` })
      ).exited
      process = await bed.startBridge()
      await settled(event, 1)
      await until(() => crm.of(event).length > 0)
      t.true(crm.of(event).length <= (point === 'bridge.forwarded' ? 2 : 1))
    })
  }

  serial('servers that go away under flow cost nothing', async (t) => {
    const orders: string[] = []
    const stop = new AbortController()
    const flow = (async () => {
      while (!stop.signal.aborted) {
        const id = randomUUID()
        const sent = await legacyPublish(sender, 'order.submitted', id).then(
          () => true,
          () => false,
        )
        if (sent) orders.push(id)
        else if (!sender.alive) sender = await openAgain(bed)
      }
    })()
    await until(() => orders.length > 100)
    // The embedded broker goes with it.
    await bed.postgres.restart('immediate')
    const before = orders.length
    await until(() => orders.length > before + 100)
    if (bed.rabbitmq !== undefined) {
      // Not kill -9: RabbitMQ then forgets acks it had taken, and the MES itself makes duplicates of what comes again.
      await bed.rabbitmq.restart('term')
      const between = orders.length
      await until(() => orders.length > between + 100)
    }
    stop.abort()
    await flow
    await until(async () => {
      const { rows } = await bed.ledger.query(
        `SELECT FROM bridge_inbox WHERE order_id = ANY($1) AND state = 'forwarded'`,
        [orders],
      )
      return rows.length === orders.length && (await rowsInMes(orders)) >= orders.length
    })
    t.is(await rowsInMes(orders), orders.length)
    t.log(`${orders.length} orders`)
  })
}

async function openAgain(bed: TestBed): Promise<Sender> {
  for (;;) {
    const sender = await bed.broker
      .openSender(`legacy-${randomUUID().slice(0, 8)}`)
      .catch(() => undefined)
    if (sender !== undefined) return sender
  }
}

/** As the Shop does it; the trigger captures it. */
async function submitInShop(bed: TestBed): Promise<string> {
  const orderId = randomUUID()
  await bed.databases.shop.query(
    `INSERT INTO orders (id, status, material, quantity, model_key, model_sha256, model_bytes)
     VALUES ($1, 'FILE_UPLOADED', 'PLA', 1, 'k', 'ab', 1)`,
    [orderId],
  )
  await bed.databases.shop.query(`UPDATE orders SET status = 'SUBMITTED' WHERE id = $1`, [orderId])
  return orderId
}
