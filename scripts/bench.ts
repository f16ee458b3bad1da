import { usualPacePerMinute } from '../adapters/partners/pace.ts'
import { StranglerError } from '../contracts/errors.ts'
import { startEmbeddedPostgres } from '../estate/embedded-postgres.ts'
import { findRabbitmqServer, startPrivateRabbitmq } from '../estate/private-rabbitmq.ts'
import { findRedisServer, startPrivateRedis } from '../estate/private-redis.ts'
import type { Interval } from './bench/alternate.ts'
import { benchDecide, type DecideBenchSize } from './bench/bench-decide.ts'
import { benchFirstPage, type FirstPageSize } from './bench/bench-first-page.ts'
import { benchIntake, type IntakeBenchSize } from './bench/bench-intake.ts'
import { type BenchSize, benchOrders, type ServerResult } from './bench/bench-orders.ts'
import {
  benchStatuses,
  type StatusBenchSize,
  type StatusServerResult,
} from './bench/bench-statuses.ts'
import { parseOptions } from './command-line/parse-options.ts'
import { runScript } from './command-line/run-script.ts'

const usage = `npm run bench -- orders|statuses|decide|intake|first-page [--json] [--short]

orders: measures, in one run on the same servers: raw BullMQ (add + process of a job of the same size), raw single-row inserts, our accept
(group commit) and our accept -> delivered into the MES queue, on Redis and on PostgreSQL; and accept -> delivered with orders
already waiting; and accept beside a Redis that hangs. Figures are rates from 64 clients.

statuses: events/s from the legacy queue to the committed row of the Shop, against a bare consumer that does one UPDATE per message, in
alternating rounds; the latency at 1 000 events/s; and the same rounds with a million orders there already. Embedded, and on
Redis and RabbitMQ.

decide: what it costs that an order's path is decided, in alternating rounds: submits/s of the Shop with 10 % in force against a Shop DB
as it was before tokens and gates; pages/s through the front door with its lease on the ledger against the same door without;
and 1 000 flips a minute while 500 orders/s are submitted, every order judged afterwards by claim, outbox, ledger and MES queue.
A bar of 3 % is met, or missed, only by the whole 95 % interval of its ratio; \`noise\` is that of the peer against itself.

intake: accepted partner orders/s with a model of 100 KB each, durable, against express with multer and one INSERT, which is not; and
the memory of the intake over ten thousand uploads.

first-page: how long the first page of the MES takes, idle, while partners submit to the MES, and while they submit the same to the
intake, whose relay keeps its usual pace; the time from a partner's submit to the order standing on that page, on both
ways; and how long after its end such a flood is through, stored and priced. As on machines of their own, the MES and its
database's sessions have the first processor, and everything else the others.

Only ratios within one run mean anything.

  --short   a fifth of the orders, and no long backlog or history: shows that it runs; too short to judge, so a bar that is missed is only told
            (an order that is lost, doubled or on two paths is no matter of time, and fails it all the same)
  --json    only the result on stdout

Exit codes: 0 every bar is met; 1 one is not; 2 bad usage; 3 inconclusive: a server to measure on is missing, or the
machine is too restless for a bar.`

const full: BenchSize = { orders: 20_000, waiting: [1000, 10_000, 100_000] }
const short: BenchSize = { orders: 4000, waiting: [1000, 10_000] }
const fullStatuses: StatusBenchSize = {
  ordersPerRound: 4000,
  rounds: { blocks: 9, rounds: 1 },
  pacedSeconds: 10,
  historic: 1_000_000,
}
const shortStatuses: StatusBenchSize = {
  ordersPerRound: 1000,
  rounds: { blocks: 1, rounds: 2 },
  pacedSeconds: 3,
  historic: 10_000,
}
const fullDecide: DecideBenchSize = {
  trigger: { submitsPerRound: 500, blocks: 15, rounds: 30 },
  door: { requestsPerRound: 1000, blocks: 9, rounds: 40 },
  flipsForSeconds: 60,
}
const shortDecide: DecideBenchSize = {
  trigger: { submitsPerRound: 500, blocks: 3, rounds: 5 },
  door: { requestsPerRound: 500, blocks: 3, rounds: 5 },
  flipsForSeconds: 6,
}

const fullIntake: IntakeBenchSize = {
  uploadsPerRound: 600,
  blocks: 3,
  rounds: 5,
  uploadsForMemory: 10_000,
}
const shortIntake: IntakeBenchSize = {
  uploadsPerRound: 200,
  blocks: 1,
  rounds: 2,
  uploadsForMemory: 1000,
}
const fullFirstPage: FirstPageSize = {
  blocks: 5,
  secondsPerRound: 8,
  ordersPerSecond: 10,
  pacePerMinute: usualPacePerMinute,
  ordersInWork: 20_000,
  submitsToSee: 50,
}
const shortFirstPage: FirstPageSize = {
  blocks: 1,
  secondsPerRound: 3,
  ordersPerSecond: 10,
  pacePerMinute: usualPacePerMinute,
  ordersInWork: 2000,
  submitsToSee: 10,
}

const benches = { orders, statuses, decide, intake, 'first-page': firstPage }

interface Asked {
  readonly json: boolean
  readonly short: boolean
}

const args = process.argv.slice(2)
await runScript('bench', args, async () => {
  const { values, positionals } = parseOptions(
    { json: { type: 'boolean' }, short: { type: 'boolean' }, help: { type: 'boolean' } },
    args,
  )
  if (values.help === true) {
    process.stdout.write(`${usage}\n`)
    return 0
  }
  const [name, ...more] = positionals
  const bench = Object.entries(benches).find(([each]) => each === name)?.[1]
  if (bench === undefined || more.length > 0)
    throw new StranglerError(
      'invalid_argument',
      `expected one bench of ${Object.keys(benches).join(', ')}, got ${positionals.join(' ') || 'nothing'}`,
    )
  return bench({ json: values.json === true, short: values.short === true })
})

async function intake(asked: Asked): Promise<number> {
  const postgres = await startEmbeddedPostgres()
  try {
    const result = await benchIntake(asked.short ? shortIntake : fullIntake, postgres, say)
    const { early, most } = result.memory
    return tell(asked, { bench: 'intake', ...result }, [
      barOfInterval('accepted orders/s, the intake / express, multer, one INSERT', result.ratio, 1),
      bar('memory after a tenth of the uploads / the most after that', early, most, 0.8),
    ])
  } finally {
    await postgres.stop()
  }
}

async function firstPage(asked: Asked): Promise<number> {
  const postgres = await startEmbeddedPostgres()
  try {
    const result = await benchFirstPage(asked.short ? shortFirstPage : fullFirstPage, postgres, say)
    return tell(asked, { bench: 'first-page', ...result }, [
      bar('p50 idle / p50 with the intake, 1 / 1.2', result.idle.p50, result.intake.p50, 0.83),
      bar('p95 idle / p95 with the intake, 1 / 1.2', result.idle.p95, result.intake.p95, 0.83),
    ])
  } finally {
    await postgres.stop()
  }
}

function say(line: string): void {
  process.stderr.write(`${line}\n`)
}

interface Bar {
  readonly bar: string
  readonly measured: number
  readonly needed: number
  readonly met: boolean
  /** Measured so often that chance has a width: 95 % of it. */
  readonly between?: readonly [number, number]
  /** What is needed lies between. */
  readonly inconclusive?: true
}

async function orders(asked: Asked): Promise<number> {
  const size = asked.short ? short : full
  const servers: Record<string, ServerResult> = {}
  const postgres = await startEmbeddedPostgres()
  try {
    if (findRedisServer() !== undefined) {
      const redis = await startPrivateRedis({ appendonly: 'everysec', policy: 'noeviction' })
      try {
        servers['redis'] = await benchOrders({ postgres, name: 'redis', redis }, size, say)
      } finally {
        await redis.stop()
      }
    }
    servers['postgres'] = await benchOrders({ postgres, name: 'postgres' }, size, say)
  } finally {
    await postgres.stop()
  }
  const bars = barsOf(servers, size)
  const told = tell(asked, { bench: 'orders', clients: 64, orders: size.orders, servers }, bars)
  return told === 0 && servers['redis'] === undefined ? 3 : told
}

async function statuses(asked: Asked): Promise<number> {
  const size = asked.short ? shortStatuses : fullStatuses
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
  const bars = Object.entries(servers).flatMap(([name, { empty, withHistory }]) => [
    barOfInterval(`${name}: legacy queue -> Shop row / bare consumer`, empty.ratio, 2),
    bar(
      `${name}: that with ${size.historic} orders there / empty`,
      withHistory.ratio.median,
      empty.ratio.median,
      0.8,
    ),
  ])
  const told = tell(asked, { bench: 'statuses', ...size, servers }, bars)
  return told === 0 && servers['real'] === undefined ? 3 : told
}

async function decide(asked: Asked): Promise<number> {
  const result = await benchDecide(asked.short ? shortDecide : fullDecide, say)
  const { trigger, door, flips } = result
  const bars = [
    barOfInterval('trigger: submits/s, with phases / before', trigger.ratio, 0.97),
    barOfInterval('door: pages/s, with its lease / without', door.ratio, 0.97),
    bar('flips: flips in force a minute / 1 000', flips.flipsPerMinute, 1000, 1),
    bar('flips: orders/s meanwhile / 500', flips.orders.perSecond, 500, 1),
  ]
  const told = tell(asked, { bench: 'decide', ...result }, bars)
  const broken = [...flips.wrong]
  if (flips.topologyChanges > 0) broken.push(`${flips.topologyChanges} topology changes`)
  if (flips.direct === 0 || flips.legacy === 0) broken.push('one path was never taken')
  for (const each of broken.slice(0, 20)) say(`WRONG   ${each}`)
  return broken.length > 0 ? 1 : told
}

function tell(asked: Asked, result: object, bars: readonly Bar[]): number {
  for (const each of bars) {
    const verdict = each.met ? 'met   ' : each.inconclusive === true ? 'INCONCLUSIVE' : 'NOT MET'
    const between = each.between === undefined ? '' : `, 95 % ${each.between.join(' to ')}`
    say(`${verdict} ${each.bar}: ${each.measured}${between} (need >= ${each.needed})`)
  }
  const document = { ...result, bars }
  process.stdout.write(
    `${asked.json ? JSON.stringify(document) : JSON.stringify(document, null, 2)}\n`,
  )
  const missed = asked.short ? [] : bars.filter((each) => !each.met)
  if (missed.some((each) => each.inconclusive !== true)) return 1
  return missed.length > 0 ? 3 : 0
}

function bar(what: string, ours: number, peer: number, needed: number): Bar {
  const measured = Math.round((ours / peer) * 100) / 100
  return { bar: what, measured, needed, met: ours / peer >= needed }
}

function barOfInterval(what: string, { median, low, high }: Interval, needed: number): Bar {
  const unsure = low < needed && high >= needed
  return {
    bar: what,
    measured: median,
    needed,
    met: low >= needed,
    between: [low, high],
    ...(unsure && { inconclusive: true }),
  }
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
