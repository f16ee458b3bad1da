import { randomUUID } from 'node:crypto'
import { loadavg } from 'node:os'

import test, { type ExecutionContext } from 'ava'

import { wholeShare } from '../../contracts/path-share.ts'
import type { NodeProcess } from '../../estate/child-process.ts'
import { advancePhase, lowerPhase } from '../../flags/phase-journal.ts'
import { hasServer, serialWith } from '../../test/optional-server.ts'
import type { QueueDepth, Sender } from '../broker/port.ts'
import { bridgeQueue } from '../wire/legacy-topology.ts'
import { bridgeStatus, insertBridge, removeBridge } from './insert-bridge.ts'
import { LegacyReader, startTestBed, until } from './test-bed.ts'
import type { TestBed } from './test-bed.ts'
import { mesEvent, startFlow } from './test-flow.ts'
import type { Flow } from './test-flow.ts'
import { installMemoryAlarm } from './test-memory-alarm.ts'
import type { MemoryAlarm } from './test-memory-alarm.ts'

/**
 * The way back on RabbitMQ while 10 000 events a second flow: the bridge goes in, dies and comes out, with and without the broker's
 * memory alarm, and every event that the MES got a confirm for is in the status inbox or has reached CRM. CRM is slow: it reads
 * when the flow is over. How many a second have really flowed depends on the machine; each test tells it, and none insists on it.
 */
const onRabbitmq = serialWith('rabbitmq-server')
const queue = 'crm.events'
const wantedRate = 10_000
/** A little more: a flow that is held to a rate can only be slower than that. */
const perSecond = 1.15 * wantedRate
let bed: TestBed
let mes: Sender
let bridge: NodeProcess

test.before(async (t) => {
  t.timeout(180_000)
  if (!hasServer('rabbitmq-server')) return
  bed = await startTestBed('rabbitmq')
  mes = await bed.broker.openSender('mes')
  bridge = await bed.startBridge()
})
test.after.always(async () => {
  await mes?.close()
  await bed?.stop()
})

const act = { phase: 'statuses-direct', who: 'test', why: 'test' } as const

const insert = (): ReturnType<typeof insertBridge> => insertBridge({ ...bed, queue, who: 'test' })
const remove = (): ReturnType<typeof removeBridge> => removeBridge({ ...bed, queue, who: 'test' })

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

/** Resolves with the confirm. */
function publish(orderId: string, status: string): Promise<void> {
  const event = mesEvent(orderId, status, published)
  published += 1
  return mes.publish(event)
}

interface Flowed {
  readonly from: number
  readonly to: number
  /** In words. */
  readonly rate: string
}

/**
 * Changes the way of the events in the middle of their flow, which begins before the change and goes on for as many more as
 * are wanted when the MES's exchange is bound to that queue.
 */
async function whileFlowing(
  orderIds: readonly string[],
  boundTo: string,
  more: number,
  change: () => Promise<unknown>,
): Promise<Flowed> {
  const from = published
  const flow = flowOf(orderIds)
  await flow.goOn(wantedRate / 3)
  const rate = flow.rateFromNow()
  const flowedOn = async (): Promise<string> => {
    await bound(boundTo)
    await flow.goOn(more)
    const reached = rate()
    const confirmed = await flow.stop()
    published += confirmed
    return `${reached}/s while the way changed`
  }
  const [inWords] = await Promise.all([flowedOn(), change()])
  return { from, to: published, rate: inWords }
}

/** The same, but the broker takes nothing from anybody while the bindings change. */
async function underAlarm(
  alarm: MemoryAlarm,
  orderIds: readonly string[],
  boundTo: string,
  change: () => Promise<unknown>,
): Promise<Flowed> {
  const from = published
  const flow = flowOf(orderIds)
  await flow.goOn(1)
  const before = flow.rateFromNow()
  await flow.goOn(wantedRate / 3)
  const reachedBefore = before()
  await alarm.on()
  await until(() => flow.blocked())
  const blockedAt = performance.now()
  await until(quiet(flow))
  const flowedOn = async (): Promise<string> => {
    await bound(boundTo)
    await alarm.off()
    await until(() => !flow.blocked())
    const blockedMs = Math.round(performance.now() - blockedAt)
    const after = flow.rateFromNow()
    await flow.goOn(wantedRate / 3)
    const reachedAfter = after()
    const confirmed = await flow.stop()
    published += confirmed
    return `${reachedBefore}/s before the alarm, none for ${blockedMs} ms, ${reachedAfter}/s after it`
  }
  const [rate] = await Promise.all([flowedOn(), change()])
  return { from, to: published, rate }
}

const flowOf = (orderIds: readonly string[]): Flow =>
  startFlow({ url: bed.rabbitmq!.url, orderIds, firstNumber: published, perSecond })

/** The MES's exchange leads there, and there alone. */
async function bound(target: string): Promise<void> {
  const other = target === queue ? bridgeQueue(queue) : queue
  await until(async () => (await isBound(target)) === true && (await isBound(other)) === false)
}

/** undefined: there is no such queue, or the broker does not tell. */
async function isBound(target: string): Promise<boolean | undefined> {
  const bindings = await bed.broker.bindingsOf(target).catch(() => undefined)
  return bindings?.some(({ exchange }) => exchange === 'mes.events')
}

/** What a blocked broker had read before, it routes and confirms: over when nothing of it comes between two looks. */
function quiet(flow: Flow): () => Promise<boolean> {
  let last = -1
  return async () => {
    await bed.broker.depth(queue)
    const before = last
    last = flow.confirmed()
    return last === before
  }
}

const numberOf = /"n":(\d+)/

/** How often each event is among what CRM has got. */
function countsOf({ got }: LegacyReader): ReadonlyMap<number, number> {
  const counts = new Map<number, number>()
  for (const { body } of got) {
    const n = Number(numberOf.exec(body.toString())![1])
    counts.set(n, (counts.get(n) ?? 0) + 1)
  }
  return counts
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
  { from, to }: { readonly from: number; readonly to: number },
  marker: number,
): Promise<{ twice: number; direct: number; through: number }> {
  const numbers = Array.from({ length: to - from }, (_, at) => from + at)
  await until(async () => {
    const { messages, depth } = await bridgeStatus({ ...bed, queue })
    return messages.open === 0 && depth !== 'unknown' && (depth === undefined || isEmpty(depth))
  })
  // Everything was confirmed, so what is in no queue and in nobody's hands is where it ends.
  const crm = new LegacyReader(bed, queue)
  try {
    await until(async () => isEmpty(await bed.broker.depth(queue)))
  } finally {
    await crm.close()
  }
  const { messages } = await bridgeStatus({ ...bed, queue })
  t.like(messages, { open: 0, held: 0, parked: 0 }, 'all settled')
  const through = await throughTheBridge(from)
  const reached = countsOf(crm)
  const direct = numbers.filter((n) => through.get(n)?.inbox === true)
  t.deepEqual(
    numbers.filter((n) => !reached.has(n) && through.get(n)?.inbox !== true),
    [],
    'none is lost',
  )
  const twice = numbers.filter(
    (n) => (reached.get(n) ?? 0) + (through.get(n)?.inbox === true ? 1 : 0) > 1,
  )
  t.deepEqual(
    twice.filter((n) => !((through.get(n)?.id ?? Infinity) < marker)),
    [],
    'twice is only what may have gone both ways while the bindings changed',
  )
  return { twice: twice.length, direct: direct.length, through: through.size }
}

/** Nothing waits in it, and nobody has anything of it in hand. */
function isEmpty({ ready, unacked }: QueueDepth): boolean {
  return ready === 0 && unacked === 0
}

async function lastMarker(): Promise<number> {
  const { rows } = await bed.databases.ledger.query<{ id: string }>(
    `SELECT max(id) AS id FROM bridge_inbox WHERE queue = $1 AND reason = 'marker'`,
    [queue],
  )
  return Number(rows[0]!.id)
}

function tell(
  t: ExecutionContext,
  { from, to, rate }: Flowed,
  found: { twice: number; direct: number; through: number },
): void {
  t.log(
    `${to - from} events, ${rate}; ${found.through} through the bridge, ${found.direct} of them direct; ${found.twice} twice; load ${loadavg()[0]!.toFixed(1)}`,
  )
}

onRabbitmq('the bridge goes in under flow, at 100 % direct', async (t) => {
  t.timeout(180_000)
  const { ledger } = bed
  await advancePhase({ ...act, ledger, seam: ledger, share: wholeShare })
  // For more than a second after the change, so that some come behind the marker of the change.
  const orders = await knownOrders(2000)
  const flowed = await whileFlowing(orders, bridgeQueue(queue), 1.15 * perSecond, insert)
  const found = await expectNoneLost(t, flowed, await lastMarker())
  t.true(found.direct > 0 && found.direct < flowed.to, 'some of each side of the change')
  tell(t, flowed, found)
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
  const { twice, direct } = await expectNoneLost(t, { from, to: published }, 0)
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
  const { ledger } = bed
  await t.throwsAsync(remove(), { message: /share 100 %/ })
  await lowerPhase({ ...act, ledger, seam: ledger, share: 0 })
  await t.throwsAsync(remove(), { message: /share 0 %, \d+ with statuses still to come/ })
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
  const orders = await knownOrders(2000)
  // Of what is done as well: a MES may say it again.
  const both = orders.flatMap((id, at) => [id, direct[at % direct.length]!.id])
  const flowed = await whileFlowing(both, queue, wantedRate / 3, remove)
  const found = await expectNoneLost(t, flowed, await lastMarker())
  t.is((await bridgeStatus({ ...bed, queue })).state, 'absent')
  tell(t, flowed, found)
})

onRabbitmq(
  'under the memory alarm the bridge goes in and comes out, and nothing goes both ways',
  async (t) => {
    t.timeout(300_000)
    // Of the legacy path: what comes through the bridge is sent again, by a sender that the alarm blocks as well.
    const orders = await knownOrders(2000)
    const alarm = await installMemoryAlarm(bed)
    const going = await underAlarm(alarm, orders, bridgeQueue(queue), insert)
    const into = await expectNoneLost(t, going, await lastMarker())
    t.is((await bridgeStatus({ ...bed, queue })).state, 'inserted')
    t.true(
      into.through > 0 && into.through < going.to - going.from,
      'some of each side of the change',
    )
    t.is(into.twice, 0)
    tell(t, going, into)
    const coming = await underAlarm(alarm, orders, queue, remove)
    const out = await expectNoneLost(t, coming, await lastMarker())
    t.is((await bridgeStatus({ ...bed, queue })).state, 'absent')
    t.true(
      out.through > 0 && out.through < coming.to - coming.from,
      'some of each side of the change',
    )
    t.is(out.twice, 0)
    tell(t, coming, out)
  },
)
