import { readFile } from 'node:fs/promises'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'

import test from 'ava'
import pg from 'pg'

import { startEmbeddedPostgres } from '../estate/embedded-postgres.ts'
import type { PostgresServer } from '../estate/postgres-server.ts'
import { HopRecorder } from './hop-recorder.ts'
import type { Hop } from './hop-recorder.ts'
import { createPool } from './postgres.ts'

const silent = { info: () => undefined, warn: () => undefined, error: () => undefined }

let postgres: PostgresServer
let databases = 0

test.before(async () => {
  postgres = await startEmbeddedPostgres()
})
test.after.always(() => postgres?.stop())

async function ledger(): Promise<{
  url: string
  readonly written: () => Promise<{ order_id: string; duration: number; age: number }[]>
}> {
  databases += 1
  const url = await postgres.createDatabase(`hops_${databases}`)
  const sql = await readFile(
    new URL('../migrations/strangler/001_ledger.sql', import.meta.url),
    'utf8',
  )
  const ask = async <Row extends pg.QueryResultRow>(text: string): Promise<Row[]> => {
    const client = new pg.Client({ connectionString: url })
    await client.connect()
    try {
      return (await client.query<Row>(text)).rows
    } finally {
      await client.end()
    }
  }
  await ask(sql)
  return {
    url,
    written: () =>
      ask(`SELECT order_id, extract(epoch FROM left_at - at)::float8 * 1000 AS duration,
             extract(epoch FROM clock_timestamp() - left_at)::float8 * 1000 AS age FROM order_event ORDER BY seq`),
  }
}

function hop(orderId: string, tookMs = 5, endedAgoMs = 0): Hop {
  const leftAt = performance.now() - endedAgoMs
  return {
    orderId,
    hop: 'proxy:shop',
    enteredAt: leftAt - tookMs,
    leftAt,
    actor: 'test',
    detail: { status: 200 },
  }
}

test.serial(
  "thousands at once become few statements, in order, none lost, with the database's clock",
  async (t) => {
    const { url, written } = await ledger()
    const pool = createPool(url, { name: 'hops', max: 1, log: silent })
    let statements = 0
    pool.on('acquire', () => (statements += 1))
    const recorder = new HopRecorder(pool, silent)
    await recorder.start()
    recorder.record(hop('first', 1500, 60_000))
    for (let n = 1; n < 5000; n += 1) recorder.record(hop(`order-${n}`))
    t.is(recorder.numbers().waiting, 5000)
    await recorder.stop()
    t.deepEqual(recorder.numbers(), { recorded: 5000, dropped: 0, waiting: 0 })
    const rows = await written()
    t.is(rows.length, 5000)
    t.is(rows[4999]?.order_id, 'order-4999')
    t.true(Math.abs(rows[0]!.duration - 1500) < 1, `${rows[0]?.duration}`)
    t.true(rows[0]!.age >= 60_000 && rows[0]!.age < 70_000, `${rows[0]?.age}`)
    t.true(statements <= 12, `${statements} statements`)
    recorder.record(hop('after the stop'))
    t.deepEqual(recorder.numbers(), { recorded: 5000, dropped: 1, waiting: 0 })
    await pool.end()
  },
)

test.serial('one row the database refuses costs no other', async (t) => {
  const { url, written } = await ledger()
  const pool = createPool(url, { name: 'hops', log: silent })
  const recorder = new HopRecorder(pool, silent)
  await recorder.start()
  for (const orderId of ['a', 'not \0 text', 'b']) recorder.record(hop(orderId))
  await recorder.stop()
  t.deepEqual(recorder.numbers(), { recorded: 2, dropped: 1, waiting: 0 })
  t.deepEqual(
    (await written()).map((row) => row.order_id),
    ['a', 'b'],
  )
  await pool.end()
})

test.serial(
  'with the database away hops wait, up to the limit, and are all there when it is back',
  async (t) => {
    const { url, written } = await ledger()
    const pool = createPool(url, { name: 'hops', max: 1, log: silent })
    const recorder = new HopRecorder(pool, silent, { queueLimit: 100, retryMs: 20 })
    await recorder.start()
    recorder.record(hop('before'))
    while (recorder.numbers().recorded < 1) await sleep(5)
    const back = postgres.restart('kill9')
    for (let n = 0; n < 150; n += 1) recorder.record(hop(`order-${n}`))
    t.deepEqual(recorder.numbers(), { recorded: 1, dropped: 50, waiting: 100 })
    await back
    await recorder.stop()
    t.deepEqual(recorder.numbers(), { recorded: 101, dropped: 50, waiting: 0 })
    t.is(new Set((await written()).map((row) => row.order_id)).size, 101)
    await pool.end()
  },
)

test.serial(
  'a stop with a database that hangs ends in time, and counts what was lost',
  async (t) => {
    const { url } = await ledger()
    const pool = createPool(url, { name: 'hops', max: 1, log: silent })
    const recorder = new HopRecorder(pool, silent, { flushMs: 200 })
    await recorder.start()
    recorder.record(hop('before'))
    while (recorder.numbers().recorded < 1) await sleep(5)
    postgres.pause()
    for (let n = 0; n < 7; n += 1) recorder.record(hop(`order-${n}`))
    await recorder.stop()
    t.deepEqual(recorder.numbers(), { recorded: 1, dropped: 7, waiting: 0 })
    postgres.resume()
    await pool.end()
  },
)
