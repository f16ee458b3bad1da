import { parseArgs } from 'node:util'

import { startEmbeddedPostgres } from '../estate/embedded-postgres.ts'
import { findRabbitmqServer, startPrivateRabbitmq } from '../estate/private-rabbitmq.ts'
import { findRedisServer, startPrivateRedis } from '../estate/private-redis.ts'
import { type BenchSize, benchOrders, type ServerResult } from './bench/bench-orders.ts'
import {
  benchStatuses,
  type StatusBenchSize,
  type StatusServerResult,
} from './bench/bench-statuses.ts'

const usage = `npm run bench -- orders|statuses [--json] [--short]

orders: measures, in one run on the same servers: raw BullMQ (add + process of a job of the same size), raw single-row inserts, our accept
(group commit) and our accept -> delivered into the MES queue, on Redis and on PostgreSQL; and accept -> delivered with orders
already waiting. Figures are rates from 64 clients.

statuses: events/s from the legacy queue to the committed row of the Shop, against a bare consumer that does one UPDATE per message;
the latency at 1 000 events/s; and the rate with a million orders there already. On Redis and RabbitMQ, and embedded.

Only ratios within one run mean anything.

  --short   a fifth of the orders, and no long backlog or history: shows that it runs; too short to judge, so a bar that is missed is only told
  --json    only the result on stdout

Exit codes: 0 every bar is met; 1 one is not; 2 bad usage; 3 inconclusive, a server to measure on is missing.`

const full: BenchSize = { orders: 20_000, waiting: [1000, 10_000, 100_000] }
const short: BenchSize = { orders: 4000, waiting: [1000, 10_000] }
const fullStatuses: StatusBenchSize = { orders: 6000, pacedSeconds: 10, historic: 1_000_000 }
const shortStatuses: StatusBenchSize = { orders: 2000, pacedSeconds: 3, historic: 10_000 }

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    short: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
if (values.help) {
  process.stdout.write(`${usage}\n`)
} else if (positionals[0] === 'orders') {
  process.exitCode = await orders()
} else if (positionals[0] === 'statuses') {
  process.exitCode = await statuses()
} else {
  process.stderr.write(`expected a bench, got ${positionals[0] ?? 'nothing'}\n\n${usage}\n`)
  process.exitCode = 2
}

function say(line: string): void {
  process.stderr.write(`${line}\n`)
}

interface Bar {
  readonly bar: string
  readonly measured: number
  readonly needed: number
  readonly met: boolean
}

async function orders(): Promise<number> {
  const size = values.short ? short : full
  const servers: Record<string, ServerResult> = {}
  const postgres = await startEmbeddedPostgres()
  try {
    if (findRedisServer() !== undefined) {
      const redis = await startPrivateRedis({ appendonly: 'everysec', policy: 'noeviction' })
      try {
        servers['redis'] = await benchOrders(
          { postgres, name: 'redis', redisUrl: redis.url },
          size,
          say,
        )
      } finally {
        await redis.stop()
      }
    }
    servers['postgres'] = await benchOrders({ postgres, name: 'postgres' }, size, say)
  } finally {
    await postgres.stop()
  }
  const bars = barsOf(servers, size)
  const told = tell({ bench: 'orders', clients: 64, orders: size.orders, servers }, bars)
  return told === 0 && servers['redis'] === undefined ? 3 : told
}

async function statuses(): Promise<number> {
  const size = values.short ? shortStatuses : fullStatuses
  const servers: Record<string, StatusServerResult> = {}
  const postgres = await startEmbeddedPostgres()
  try {
    servers['embedded'] = await benchStatuses({ postgres, name: 'embedded' }, size, say)
    if (findRedisServer() !== undefined && findRabbitmqServer() !== undefined) {
      const redis = await startPrivateRedis({ appendonly: 'everysec', policy: 'noeviction' })
      const rabbitmq = await startPrivateRabbitmq()
      try {
        const real = { postgres, name: 'real', redisUrl: redis.url, amqp: rabbitmq }
        servers['real'] = await benchStatuses(real, size, say)
      } finally {
        await redis.stop()
        await rabbitmq.stop()
      }
    }
  } finally {
    await postgres.stop()
  }
  const bars = Object.entries(servers).flatMap(([name, server]) => [
    bar(
      `${name}: legacy queue -> Shop row / bare consumer`,
      server.statuses.perSecond,
      server.bareConsumer.perSecond,
      2,
    ),
    bar(
      `${name}: with ${size.historic} orders there / empty`,
      server.withHistory.perSecond,
      server.statuses.perSecond,
      0.8,
    ),
  ])
  const told = tell({ bench: 'statuses', ...size, servers }, bars)
  return told === 0 && servers['real'] === undefined ? 3 : told
}

function tell(result: object, bars: readonly Bar[]): number {
  for (const each of bars)
    say(`${each.met ? 'met   ' : 'NOT MET'} ${each.bar}: ${each.measured} (need >= ${each.needed})`)
  const document = { ...result, bars }
  process.stdout.write(
    `${values.json ? JSON.stringify(document) : JSON.stringify(document, null, 2)}\n`,
  )
  return !values.short && bars.some((each) => !each.met) ? 1 : 0
}

function bar(what: string, ours: number, peer: number, needed: number): Bar {
  const measured = Math.round((ours / peer) * 100) / 100
  return { bar: what, measured, needed, met: measured >= needed }
}

function barsOf(servers: Record<string, ServerResult>, size: BenchSize): Bar[] {
  const bars: Bar[] = []
  const add = (what: string, ours: number, peer: number, needed: number): void => {
    bars.push(bar(what, ours, peer, needed))
  }
  for (const [name, server] of Object.entries(servers)) {
    add(
      `${name}: accept / single-row inserts`,
      server.accept.perSecond,
      server.singleRowInserts.perSecond,
      2,
    )
    if (name === 'redis')
      add(
        `${name}: accept -> delivered / raw BullMQ`,
        server.acceptToDelivered.perSecond,
        server.rawBullmq.perSecond,
        0.5,
      )
    const [least, most] = [String(size.waiting[0]), String(size.waiting.at(-1))]
    add(
      `${name}: ${most} waiting / ${least} waiting`,
      server.waiting[most]!.perSecond,
      server.waiting[least]!.perSecond,
      0.8,
    )
  }
  return bars
}
