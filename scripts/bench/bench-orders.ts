import { randomUUID } from 'node:crypto'

import { acceptOrders, type AcceptedOrder, type LedgerEntry } from '../../delivery/accept-orders.ts'
import { rateOf, type Rate } from '../../delivery/bench/rate.ts'
import { rawBullmq } from '../../delivery/bench/raw-bullmq.ts'
import { Doorbell } from '../../delivery/doorbell.ts'
import { type Estate, startEstate } from '../../estate/estate.ts'
import type { PostgresServer } from '../../estate/postgres-server.ts'
import type { PrivateRedis } from '../../estate/private-redis.ts'
import { GroupCommit } from '../../runtime/group-commit.ts'
import { createLog } from '../../runtime/log.ts'
import { createPool, type Pool } from '../../runtime/postgres.ts'

const log = createLog('bench')
const clients = 64

export interface BenchSize {
  readonly orders: number
  readonly waiting: readonly number[]
}

export interface ServerResult {
  readonly rawBullmq: Rate
  readonly singleRowInserts: Rate
  readonly accept: Rate
  /** The same with a ring after each commit, as the relay does it; and while the doorbell's server is frozen. */
  readonly acceptAndRing?: Rate
  readonly acceptWhileHung?: Rate
  readonly acceptToDelivered: Rate
  readonly waiting: Readonly<Record<string, Rate>>
}

/** All figures of one doorbell server, in one run: what the peers do on it, and what we do. */
export async function benchOrders(
  options: {
    postgres: PostgresServer
    name: string
    redis?: PrivateRedis
    amqp?: { url: string; managementUrl: string }
  },
  size: BenchSize,
  say: (line: string) => void,
): Promise<ServerResult> {
  const prefix = `bench_${options.name}_`
  const estate = await startEstate({
    postgres: options.postgres,
    databasePrefix: prefix,
    ...(options.redis === undefined ? {} : { queueUrl: options.redis.url }),
    ...(options.amqp === undefined
      ? {}
      : { amqpUrl: options.amqp.url, amqpManagementUrl: options.amqp.managementUrl }),
    without: ['shop', 'crm', 'mes', 'proxy', 'bridge', 'relay', 'watch'],
  })
  const ledger = createPool(estate.databases.ledger, { name: 'bench', max: clients, log })
  const queueUrl = estate.operatorEnvironment['QUEUE_URL']!
  const queuePrefix = estate.operatorEnvironment['QUEUE_PREFIX']
  const bell = {
    url: queueUrl,
    queue: 'orders',
    log,
    ...(queuePrefix === undefined ? {} : { prefix: queuePrefix }),
  }
  const doorbell = new Doorbell(bell)
  const ringing = new Doorbell(bell)
  try {
    // Connections are opened and code is warm before anything is counted.
    await singleRowInserts(ledger, 500)
    await acceptToDelivered(ledger, doorbell, 1000)

    const raw = await rawBullmq({
      url: queueUrl,
      prefix: `${queuePrefix ?? 'raw'}-raw`,
      jobs: size.orders,
      clients,
      concurrency: options.redis === undefined ? 4 : clients,
      bodyBytes: sampleOrder().body.length,
    })
    say(`  ${options.name}: raw BullMQ, add and process      ${show(raw)}`)
    const single = await singleRowInserts(ledger, size.orders)
    say(`  ${options.name}: single-row inserts               ${show(single)}`)
    const accept = await acceptOnly(ledger, size.orders)
    say(`  ${options.name}: accept (group commit)            ${show(accept)}`)
    const delivered = await acceptToDelivered(ledger, doorbell, size.orders)
    say(`  ${options.name}: accept -> delivered              ${show(delivered)}`)
    const waiting: Record<string, Rate> = {}
    for (const backlog of size.waiting) {
      waiting[String(backlog)] = await acceptToDelivered(ledger, doorbell, size.orders, backlog)
      say(
        `  ${options.name}: accept -> delivered, ${String(backlog).padStart(6)} waiting ${show(waiting[String(backlog)]!)}`,
      )
      await emptyMesQueue(estate)
    }
    // Last: what was rung meanwhile is still in the queue, and a doorbell remembers that it was away.
    const rung =
      options.redis === undefined
        ? undefined
        : await acceptAndRing(ledger, ringing, options.redis, size.orders)
    if (rung !== undefined) {
      say(`  ${options.name}: accept, rings not awaited         ${show(rung.acceptAndRing)}`)
      say(`  ${options.name}: accept, the doorbell hangs        ${show(rung.acceptWhileHung)}`)
    }
    return {
      rawBullmq: raw,
      singleRowInserts: single,
      accept,
      ...rung,
      acceptToDelivered: delivered,
      waiting,
    }
  } finally {
    await doorbell.close()
    await ringing.close()
    await ledger.end()
    await estate.stop()
  }
}

function show(rate: Rate): string {
  return `${String(rate.perSecond).padStart(7)}/s   p50 ${rate.p50} ms   p99 ${rate.p99} ms`
}

function sampleOrder(path: 'direct' | 'legacy' = 'direct'): AcceptedOrder {
  const orderId = randomUUID()
  return {
    orderId,
    origin: 'shop',
    sourceRef: orderId,
    path,
    pathEpoch: 1,
    pathReason: { rule: 'share', share: 10_000, bucket: 1 },
    routingKey: 'order.submitted',
    body: Buffer.from(
      JSON.stringify({
        orderId,
        source: 'shop',
        status: 'SUBMITTED',
        occurredAt: '2026-01-01T00:00:00.000Z',
        clientId: 17_850,
        customerTier: 'silver',
        material: 'PLA',
        quantity: 3,
        comment: null,
        model: { key: `models/ab/${'a'.repeat(64)}`, sha256: 'a'.repeat(64), bytes: 571_184 },
      }),
    ),
    modelSha256: Buffer.alloc(32, 0xaa),
    ageMs: 1,
  }
}

async function byClients(count: number, one: () => Promise<unknown>): Promise<Rate> {
  const latencies: number[] = []
  let left = count
  const began = performance.now()
  await Promise.all(
    Array.from({ length: clients }, async () => {
      while (left > 0) {
        left -= 1
        const at = performance.now()
        await one()
        latencies.push(performance.now() - at)
      }
    }),
  )
  return rateOf(count, performance.now() - began, latencies)
}

/** The peer of accept: the same row, one INSERT and one commit each, from as many connections as there are clients. */
function singleRowInserts(ledger: Pool, count: number): Promise<Rate> {
  return byClients(count, () => acceptOrders(ledger, [sampleOrder('legacy')]))
}

function acceptOnly(ledger: Pool, count: number): Promise<Rate> {
  const accept = groupedAccept(ledger)
  return byClients(count, () => accept.push(sampleOrder('legacy')))
}

/** No ring is awaited, so a doorbell that hangs must not show. The orders are legacy ones: nothing is delivered meanwhile. */
async function acceptAndRing(
  ledger: Pool,
  doorbell: Doorbell,
  redis: PrivateRedis,
  count: number,
): Promise<Required<Pick<ServerResult, 'acceptAndRing' | 'acceptWhileHung'>>> {
  const rings: Promise<unknown>[] = []
  const run = async (): Promise<Rate> => {
    const accept = groupedAccept(ledger, (orders) =>
      // That it fails while the server hangs is what is looked at.
      rings.push(
        doorbell.ring(orders.map(({ orderId, gen }) => ({ orderId, gen }))).catch(() => undefined),
      ),
    )
    const rate = await byClients(count, () => accept.push(sampleOrder('legacy')))
    await Promise.all(rings)
    return rate
  }
  const well = await run()
  redis.pause()
  try {
    return { acceptAndRing: well, acceptWhileHung: await run() }
  } finally {
    redis.resume()
  }
}

function groupedAccept(
  ledger: Pool,
  onAccepted?: (orders: LedgerEntry[]) => void,
): GroupCommit<AcceptedOrder, true> {
  return new GroupCommit(async (orders) => {
    const accepted = await acceptOrders(ledger, orders)
    onAccepted?.(accepted)
    return orders.map(() => true)
  })
}

/** 64 clients accept and ring; the courier process delivers into the real queue. With `backlog`, so many orders wait already. */
async function acceptToDelivered(
  ledger: Pool,
  doorbell: Doorbell,
  count: number,
  backlog = 0,
): Promise<Rate> {
  const { rows: clock } = await ledger.query<{ now: Date }>('SELECT clock_timestamp() AS now')
  const since = clock[0]!.now
  const rings: Promise<void>[] = []
  const ring = (orders: readonly LedgerEntry[]): void => {
    rings.push(doorbell.ring(orders.map(({ orderId, gen }) => ({ orderId, gen }))))
  }
  const accept = groupedAccept(ledger, ring)
  if (backlog > 0) await acceptBacklog(ledger, backlog, ring)
  const began = performance.now()
  await byClients(count, () => accept.push(sampleOrder()))
  await Promise.all(rings)
  for (;;) {
    const { rows } = await ledger.query<{ waiting: number }>(
      `SELECT count(*)::int AS waiting FROM (SELECT FROM order_ledger
       WHERE path = 'direct' AND state NOT IN ('delivered', 'dead', 'cancelled') LIMIT 1) open`,
    )
    if (rows[0]!.waiting === 0) break
    await new Promise((resolve) => {
      setTimeout(resolve, 100)
    })
  }
  const took = performance.now() - began
  const { rows } = await ledger.query<{ p50: number; p99: number; n: number }>(
    `SELECT count(*)::int AS n,
            percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) AS p50, percentile_cont(0.99) WITHIN GROUP (ORDER BY ms) AS p99
     FROM (SELECT extract(epoch FROM delivered_at - accepted_at) * 1000 AS ms FROM order_ledger WHERE path = 'direct' AND accepted_at >= $1) l`,
    [since],
  )
  const measured = rows[0]!
  if (measured.n !== count + backlog)
    throw new Error(`expected ${count + backlog} delivered orders, got ${measured.n}`)
  const rate = rateOf(count + backlog, took, [])
  return {
    ...rate,
    p50: Math.round(measured.p50 * 100) / 100,
    p99: Math.round(measured.p99 * 100) / 100,
  }
}

async function acceptBacklog(
  ledger: Pool,
  backlog: number,
  ring: (orders: LedgerEntry[]) => void,
): Promise<void> {
  const client = await ledger.connect()
  try {
    await client.query('BEGIN')
    const accepted: LedgerEntry[] = []
    for (let at = 0; at < backlog; at += 1000) {
      accepted.push(
        ...(await acceptOrders(
          client,
          Array.from({ length: Math.min(1000, backlog - at) }, () => sampleOrder()),
        )),
      )
    }
    await client.query('COMMIT')
    ring(accepted)
  } finally {
    client.release()
  }
}

async function emptyMesQueue(estate: Estate): Promise<void> {
  if (estate.operatorEnvironment['BROKER_URL']!.startsWith('amqp')) return
  const broker = createPool(estate.databases.broker, { name: 'bench', max: 1, log })
  await broker.query('TRUNCATE amq.message')
  await broker.end()
}
