import { availableParallelism } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'

import { type Rate, rateOf } from '../../delivery/bench/rate.ts'
import type { EmbeddedPostgres } from '../../estate/embedded-postgres.ts'
import { type Estate, startEstate } from '../../estate/estate.ts'
import { withClient } from '../../estate/postgres-server.ts'
import { descendantsOf } from '../../estate/process-table.ts'
import { run } from '../../estate/run-command.ts'
import { inheritedEnvironment } from '../../runtime/config.ts'
import { preparePartner } from './bench-intake.ts'
import { UploadLoad } from './upload-load.ts'

export interface FirstPageSize {
  readonly blocks: number
  readonly secondsPerRound: number
  /** Partner orders a second, each with a model of 100 KB. */
  readonly ordersPerSecond: number
  /** The pace at which the intake's relay lets them go on to the MES. */
  readonly pacePerMinute: number
  readonly ordersInWork: number
  readonly submitsToSee: number
}

interface PageTimes {
  readonly p50: number
  readonly p95: number
  readonly pages: number
}

export interface FirstPageResult extends FirstPageSize {
  readonly idle: PageTimes
  /** The partners' orders go to the MES over its own API. */
  readonly legacy: PageTimes
  /** The same orders go to the intake. */
  readonly intake: PageTimes
  /** From a partner's submit to the order standing on the operators' first page, ms. */
  readonly untilSeen: { readonly legacy: Rate; readonly intake: Rate }
  /** From the end of the flood until the MES had stored and priced its last order, at most, seconds. */
  readonly untilThrough: { readonly legacy: number; readonly intake: number }
}

const key = 'bench-key'
// Asked before we stand apart ourselves: from then on it would count ours alone.
const processors = availableParallelism()
const states = ['idle', 'legacy', 'intake'] as const
type State = (typeof states)[number]

/** How long operators wait for the first page of the MES: idle, and while partners submit on either way, in alternating rounds. */
export async function benchFirstPage(
  size: FirstPageSize,
  postgres: EmbeddedPostgres,
  say: (line: string) => void,
): Promise<FirstPageResult> {
  const estate = await startEstate({
    postgres,
    databasePrefix: 'bench_first_page_',
    without: ['shop', 'crm', 'proxy', 'bridge', 'relay', 'applier', 'shadow'],
    with: ['intake', 'intake-relay', 'intake-feed'],
    settings: {
      mes: { MES_PARTNERS: JSON.stringify({ [key]: 'Bench' }) },
      'intake-relay': { PARTNER_ORDERS_PER_MINUTE: String(size.pacePerMinute) },
    },
  })
  const load = new UploadLoad({ clients: 64, modelBytes: 100_000, key })
  try {
    await preparePartner(estate, 10_000)
    await fillMes(estate, size.ordersInWork)
    const origins = {
      legacy: estate.legacy.mes,
      intake: `http://127.0.0.1:${estate.process('intake').port}`,
    }
    const times: Record<State, number[]> = { idle: [], legacy: [], intake: [] }
    const through: Record<State, number> = { idle: 0, legacy: 0, intake: 0 }
    const round = async (state: State): Promise<number[]> => {
      await standApart(estate, postgres)
      const ending = new AbortController()
      const submitting =
        state === 'idle'
          ? Promise.resolve()
          : atRate(size.ordersPerSecond, ending.signal, () => load.one(origins[state]))
      const found = await lookAt(estate.legacy.mes, size.secondsPerRound * 1000)
      ending.abort()
      await submitting
      const over = performance.now()
      await quiet(estate)
      through[state] = Math.max(through[state], Math.round(performance.now() - over) / 1000)
      return found
    }
    // Code is warm before anything is counted.
    for (const state of states) await round(state)
    for (let block = 0; block < size.blocks; block += 1)
      for (const state of states) times[state].push(...(await round(state)))
    const result = {
      ...size,
      idle: timesOf(times.idle),
      legacy: timesOf(times.legacy),
      intake: timesOf(times.intake),
      untilSeen: {
        legacy: await untilSeen(estate, load, origins.legacy, size),
        intake: await untilSeen(estate, load, origins.intake, size),
      },
      untilThrough: { legacy: through.legacy, intake: through.intake },
    }
    for (const state of states)
      say(
        `  first page, ${state.padEnd(8)} p50 ${result[state].p50} ms   p95 ${result[state].p95} ms`,
      )
    for (const way of ['legacy', 'intake'] as const)
      say(
        `  submit -> seen, ${way.padEnd(8)} p50 ${result.untilSeen[way].p50} ms   p99 ${result.untilSeen[way].p99} ms; a flood through ${result.untilThrough[way]} s after its end`,
      )
    return result
  } finally {
    load.close()
    await estate.stop()
  }
}

/**
 * As on machines of their own: the MES and its database's sessions on the first processor, everything else, also we, on the others.
 * Otherwise the page would be measured by what else the machine has to do.
 */
async function standApart(estate: Estate, postgres: EmbeddedPostgres): Promise<void> {
  const sessions = await withClient(estate.databases.mes, async (client) => {
    const { rows } = await client.query<{ pid: number }>(
      `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND usename = 'mes'`,
    )
    return rows.map(({ pid }) => pid)
  })
  const ofMes = new Set([estate.process('mes').pid, ...sessions])
  const all = [
    process.pid,
    postgres.pid,
    ...descendantsOf(postgres.pid),
    ...[...estate.processes.values()].map(({ pid }) => pid),
  ]
  if (processors === 1) return
  for (const pid of all) {
    // One that has ended in the meantime needs no place.
    await run(
      'taskset',
      [
        '--all-tasks',
        '--cpu-list',
        '--pid',
        ofMes.has(pid) ? '0' : `1-${processors - 1}`,
        String(pid),
      ],
      inheritedEnvironment(),
      true,
    )
  }
}

async function fillMes(estate: Estate, orders: number): Promise<void> {
  await withClient(estate.databases.mes, async (client) => {
    await client.query(
      `INSERT INTO orders (order_id, source, status, model_key, model_sha256, model_bytes, material, quantity, price, currency)
       SELECT gen_random_uuid(), 'shop', 'PRICE_CALCULATED', 'k', 's', 1, 'PLA', 1, 12.30, 'EUR' FROM generate_series(1, $1::int)`,
      [orders],
    )
    await client.query('ANALYZE')
  })
}

/** Begins one in every so many milliseconds, whether those before have ended or not: a flood does not wait. */
async function atRate(
  perSecond: number,
  signal: AbortSignal,
  begin: () => Promise<unknown>,
): Promise<void> {
  const running = new Set<Promise<unknown>>()
  const began = performance.now()
  for (let n = 0; !signal.aborted; n += 1) {
    const one = begin().finally(() => running.delete(one))
    running.add(one)
    await delay(Math.max(0, began + ((n + 1) * 1000) / perSecond - performance.now()))
  }
  await Promise.all(running)
}

/** One operator, who looks again twenty times a second. */
async function lookAt(mes: string, forMs: number): Promise<number[]> {
  const times: number[] = []
  const began = performance.now()
  while (performance.now() - began < forMs) {
    const at = performance.now()
    const response = await fetch(`${mes}/`)
    await response.text()
    if (response.status !== 200) throw new Error(`the first page answered ${response.status}`)
    times.push(performance.now() - at)
    await delay(Math.max(0, at + 50 - performance.now()))
  }
  return times
}

/** What was submitted has left the intake and is priced: the next round begins with nothing to do. */
async function quiet(estate: Estate): Promise<void> {
  for (;;) {
    const unrelayed = await withClient(estate.databases.intake, async (client) => {
      const { rows } = await client.query<{ n: number }>(
        'SELECT count(*)::int AS n FROM outbox WHERE relayed_at IS NULL',
      )
      return rows[0]!.n
    })
    const undelivered = await withClient(estate.databases.ledger, async (client) => {
      const { rows } = await client.query<{ n: number }>(
        `SELECT count(*)::int AS n FROM order_ledger WHERE state <> 'delivered'`,
      )
      return rows[0]!.n
    })
    const waiting = await withClient(estate.databases.mes, async (client) => {
      const { rows } = await client.query<{ n: number }>(
        `SELECT count(*)::int AS n FROM orders WHERE status = 'SUBMITTED'`,
      )
      return rows[0]!.n
    })
    if (unrelayed + undelivered + waiting === 0) return
    await delay(100)
  }
}

/** One by one and no faster than the pace: how long an order takes that is no flood. */
async function untilSeen(
  estate: Estate,
  load: UploadLoad,
  origin: string,
  { submitsToSee, pacePerMinute }: FirstPageSize,
): Promise<Rate> {
  const times: number[] = []
  const began = performance.now()
  for (let n = 0; n < submitsToSee; n += 1) {
    const at = performance.now()
    const id = await load.one(origin)
    for (;;) {
      const page = await (await fetch(`${estate.legacy.mes}/`)).text()
      if (page.includes(id)) break
      await delay(5)
    }
    times.push(performance.now() - at)
    await delay(Math.max(0, at + 60_000 / pacePerMinute - performance.now()))
  }
  return rateOf(submitsToSee, performance.now() - began, times)
}

function timesOf(times: readonly number[]): PageTimes {
  const sorted = times.toSorted((a, b) => a - b)
  const at = (share: number): number =>
    Math.round((sorted[Math.floor((sorted.length - 1) * share)] ?? 0) * 100) / 100
  return { p50: at(0.5), p95: at(0.95), pages: times.length }
}
