import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'

import test, { type ExecutionContext } from 'ava'

import { wholeShare } from '../../contracts/path-share.ts'
import type { NodeProcess } from '../../estate/child-process.ts'
import { advancePhase, rollbackPhase } from '../../flags/phase-journal.ts'
import { hasServer, serialWith } from '../../test/optional-server.ts'
import type { Sender } from '../broker/port.ts'
import { bridgeQueue } from '../wire/legacy-topology.ts'
import { bridgeStatus, insertBridge, removeBridge } from './insert-bridge.ts'
import { LegacyReader, startTestBed, until } from './test-bed.ts'
import type { TestBed } from './test-bed.ts'

/**
 * The way back on RabbitMQ at 100 % direct, with as many events a second as it takes: the bridge dies, goes in and comes out, and
 * every event that the MES got a confirm for is in the status inbox or has reached CRM.
 */
const onRabbitmq = serialWith('rabbitmq-server')
const queue = 'crm.events'
const perSecond = 10_000
let bed: TestBed
let mes: Sender
let crm: LegacyReader
let bridge: NodeProcess

test.before(async (t) => {
  t.timeout(180_000)
  if (!hasServer('rabbitmq-server')) return
  bed = await startTestBed('rabbitmq')
  mes = await bed.broker.openSender('mes')
  crm = new LegacyReader(bed, queue)
  bridge = await bed.startBridge()
})
test.after.always(async () => {
  await crm?.close()
  await mes?.close()
  await bed?.stop()
})

const act = { phase: 'statuses-direct', who: 'test', why: 'test' } as const

async function knownOrders(count: number): Promise<string[]> {
  const ids = Array.from({ length: count }, () => randomUUID())
  await bed.databases.ledger.query(
    `INSERT INTO order_ledger (order_id, origin, source_ref, path, path_epoch, path_reason, state, routing_key, body, body_sha256,
                               submitted_at, delivered_at)
     SELECT id, 'shop', id, 'direct', 1, '{"rule": "test"}', 'delivered', 'order.submitted', '{}', sha256('{}'), now(), now()
     FROM unnest($1::text[]) AS o(id)`,
    [ids],
  )
  return ids
}

let published = 0

/** Resolves with the confirm. Each event has a number of its own. */
function publish(orderId: string, status: string): Promise<void> {
  const occurredAt = new Date(Date.UTC(2026, 0, 1) + published).toISOString()
  const body = JSON.stringify({ orderId, source: 'shop', status, occurredAt, n: published })
  published += 1
  return mes.publish({
    exchange: 'mes.events',
    routingKey: 'order.status_changed',
    body: Buffer.from(body),
    properties: { contentType: 'application/json', headers: { 'x-sender': 'mes' } },
  })
}

/** Publishes at the given rate, as far as the broker confirms it, until told to stop; then tells the rate that was reached. */
function flowOf(orderIds: readonly string[]): { stop(): Promise<number>; count(): number } {
  const stopping = new AbortController()
  const started = performance.now()
  let sent = 0
  const unconfirmed = new Set<Promise<void>>()
  const running = (async () => {
    while (!stopping.signal.aborted) {
      const due = ((performance.now() - started) / 1000) * perSecond
      for (; sent < due && unconfirmed.size < 1000; sent += 1) {
        const one = publish(orderIds[sent % orderIds.length]!, 'PACKAGING')
        unconfirmed.add(one)
        // A refusal is met where all of them are awaited.
        one.then(
          () => unconfirmed.delete(one),
          () => stopping.abort(),
        )
      }
      await delay(1)
    }
    await Promise.all(unconfirmed)
  })()
  return {
    count: () => sent,
    async stop() {
      stopping.abort()
      await running
      return Math.round((sent / (performance.now() - started)) * 1000)
    },
  }
}

/** Goes on for a while after the MES's exchange has been bound to that queue; then tells the rate. */
async function stopAfter(flow: ReturnType<typeof flowOf>, boundTo: string): Promise<number> {
  await until(async () => {
    const bindings = await bed.broker.bindingsOf(boundTo).catch(() => undefined)
    return bindings?.some(({ exchange }) => exchange === 'mes.events') === true
  })
  const then = flow.count()
  await until(() => flow.count() > then + perSecond / 3)
  return flow.stop()
}

const numberOf = /"n":(\d+)/
const inCrm = new Map<number, number>()
let read = 0

/** How often each event has reached CRM so far. */
function reachedCrm(): ReadonlyMap<number, number> {
  for (; read < crm.got.length; read += 1) {
    const n = Number(numberOf.exec(crm.got[read]!.body.toString())![1])
    inCrm.set(n, (inCrm.get(n) ?? 0) + 1)
  }
  return inCrm
}

/** The row of each event that went through the bridge, and whether it is in the status inbox. */
async function throughTheBridge(
  from: number,
): Promise<ReadonlyMap<number, { id: number; inbox: boolean }>> {
  const { rows } = await bed.databases.ledger.query<{ n: number; id: string; inbox: boolean }>(
    `SELECT * FROM (
       SELECT substring(convert_from(b.body, 'UTF8') FROM '"n":(\\d+)')::int AS n, b.id, s.id IS NOT NULL AS inbox
       FROM bridge_inbox b LEFT JOIN status_inbox s ON s.id = b.id WHERE b.queue = $1 AND b.order_id IS NOT NULL) e
     WHERE n >= $2`,
    [queue, from],
  )
  return new Map(rows.map(({ n, id, inbox }) => [n, { id: Number(id), inbox }]))
}

/** Events `from` to `to` are all there; twice only those that came through the bridge before the marker of the change. */
async function expectNoneLost(
  t: ExecutionContext,
  from: number,
  to: number,
  marker: number,
): Promise<{ twice: number; direct: number }> {
  const numbers = Array.from({ length: to - from }, (_, at) => from + at)
  await until(async () => {
    const { messages, depth } = await bridgeStatus({ ...bed, queue })
    return messages.open === 0 && depth !== 'unknown' && (depth?.ready ?? 0) === 0
  })
  // What the bridge has been given and has not stored yet is in neither.
  await until(async () => {
    const through = await throughTheBridge(from)
    const reached = reachedCrm()
    return numbers.every((n) => reached.has(n) || through.get(n)?.inbox === true)
  })
  // What comes a second time is behind what came the first time.
  await until(async () => (await bed.broker.depth(queue)).ready === 0)
  const through = await throughTheBridge(from)
  const reached = reachedCrm()
  const direct = numbers.filter((n) => through.get(n)?.inbox === true)
  const twice = numbers.filter(
    (n) => (reached.get(n) ?? 0) + (through.get(n)?.inbox === true ? 1 : 0) > 1,
  )
  t.deepEqual(
    twice.filter((n) => !((through.get(n)?.id ?? Infinity) < marker)),
    [],
    'twice is only what may have gone both ways while the bindings changed',
  )
  return { twice: twice.length, direct: direct.length }
}

async function lastMarker(): Promise<number> {
  const { rows } = await bed.databases.ledger.query<{ id: string }>(
    `SELECT max(id) AS id FROM bridge_inbox WHERE queue = $1 AND reason = 'marker'`,
    [queue],
  )
  return Number(rows[0]!.id)
}

onRabbitmq('the bridge goes in under flow, at 100 % direct', async (t) => {
  t.timeout(180_000)
  const { broker, ledger } = bed
  await advancePhase({ ...act, ledger, seam: ledger, share: wholeShare })
  const orders = await knownOrders(2000)
  const flow = flowOf(orders)
  await until(() => flow.count() > perSecond / 3)
  const inserting = insertBridge({ broker, ledger, queue, who: 'test' })
  const rate = await stopAfter(flow, bridgeQueue(queue))
  await inserting
  const to = published
  const { twice, direct } = await expectNoneLost(t, 0, to, await lastMarker())
  t.true(direct > 0 && direct < to, 'some of each side of the change')
  t.log(`${to} events at ${rate}/s, ${direct} of them direct, ${twice} twice`)
})

onRabbitmq('kill -9 between commit and ack: each event once, none to CRM', async (t) => {
  t.timeout(110_000)
  const orders = await knownOrders(20)
  await bridge.terminate()
  const dying = await bed.startBridge({ FAILPOINTS: 'bridge.diverted=kill' })
  const from = published
  for (const status of ['MANUFACTURING_STARTED', 'PACKAGING', 'SHIPPED'])
    await Promise.all(orders.map((id) => publish(id, status)))
  await dying.exited
  bridge = await bed.startBridge()
  const { twice, direct } = await expectNoneLost(t, from, published, 0)
  t.is(twice, 0)
  t.is(direct, published - from)
  const { rows } = await bed.databases.ledger.query(
    `SELECT order_id, array_agg(status ORDER BY id) AS statuses FROM status_inbox WHERE order_id = ANY($1) GROUP BY 1
     HAVING array_agg(status ORDER BY id) <> '{MANUFACTURING_STARTED,PACKAGING,SHIPPED}'`,
    [orders],
  )
  t.deepEqual(rows, [], 'in the order in which they were sent')
})

onRabbitmq('the bridge comes out under flow, when no direct order needs it any more', async (t) => {
  t.timeout(180_000)
  const { broker, ledger } = bed
  const take = (): ReturnType<typeof removeBridge> =>
    removeBridge({ broker, ledger, queue, who: 'test' })
  await t.throwsAsync(take(), { message: /share 100 %/ })
  await rollbackPhase({ ...act, ledger, seam: ledger })
  await t.throwsAsync(take(), { message: /share 0 %, \d+ with statuses still to come/ })
  const { rows: direct } = await ledger.query<{ id: string }>(
    `SELECT order_id AS id FROM order_ledger WHERE status_path = 'direct'`,
  )
  // The applier's part.
  await Promise.all(direct.map(({ id }) => publish(id, 'SHIPPED')))
  // By the inbox itself: what RabbitMQ tells of a queue is a second old.
  await until(async () => {
    const { rowCount } = await ledger.query(
      `SELECT FROM order_ledger l WHERE l.status_path = 'direct' AND NOT EXISTS (
         SELECT FROM status_inbox s WHERE s.order_id = l.order_id AND s.status = 'SHIPPED') LIMIT 1`,
    )
    return rowCount === 0
  })
  await bed.databases.ledger.query(
    `UPDATE status_inbox SET state = 'applied', settled_at = clock_timestamp()`,
  )
  const from = published
  const orders = await knownOrders(2000)
  // Of what is done as well: a MES may say it again.
  const flow = flowOf(orders.flatMap((id, at) => [id, direct[at % direct.length]!.id]))
  await until(() => flow.count() > perSecond / 3)
  const [rate] = await Promise.all([stopAfter(flow, queue), take()])
  const found = await expectNoneLost(t, from, published, await lastMarker())
  t.is((await bridgeStatus({ ...bed, queue })).state, 'absent')
  t.log(
    `${published - from} events at ${rate}/s, ${found.direct} of them direct, ${found.twice} twice`,
  )
})
