import { parseArgs } from 'node:util'

import { startEmbeddedPostgres } from '../estate/embedded-postgres.ts'
import { findRedisServer, startPrivateRedis } from '../estate/private-redis.ts'
import { type BenchSize, benchOrders, type ServerResult } from './bench/bench-orders.ts'

const usage = `npm run bench -- orders [--json] [--short]

Measures, in one run on the same servers: raw BullMQ (add + process of a job of the same size), raw single-row inserts, our accept
(group commit) and our accept -> delivered into the MES queue, on Redis and on PostgreSQL; and accept -> delivered with orders
already waiting. Figures are rates from 64 clients; only ratios within one run mean anything.

  --short   a fifth of the orders, and no 100 000 waiting: shows that it runs; too short to judge, so a bar that is missed is only told
  --json    only the result on stdout

Exit codes: 0 every bar is met; 1 one is not; 2 bad usage; 3 inconclusive, a server to measure on is missing.`

const full: BenchSize = { orders: 20_000, waiting: [1000, 10_000, 100_000] }
const short: BenchSize = { orders: 4000, waiting: [1000, 10_000] }

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
  for (const bar of bars)
    say(`${bar.met ? 'met   ' : 'NOT MET'} ${bar.bar}: ${bar.measured} (need >= ${bar.needed})`)
  const result = { bench: 'orders', clients: 64, orders: size.orders, servers, bars }
  process.stdout.write(
    `${values.json ? JSON.stringify(result) : JSON.stringify(result, null, 2)}\n`,
  )
  if (!values.short && bars.some((bar) => !bar.met)) return 1
  return servers['redis'] === undefined ? 3 : 0
}

function barsOf(servers: Record<string, ServerResult>, size: BenchSize): Bar[] {
  const bars: Bar[] = []
  const add = (bar: string, ours: number, peer: number, needed: number): void => {
    const measured = Math.round((ours / peer) * 100) / 100
    bars.push({ bar, measured, needed, met: measured >= needed })
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
