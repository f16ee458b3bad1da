import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

import type pg from 'pg'

import { type Rate, rateOf } from '../../delivery/bench/rate.ts'
import { type PostgresServer, withClient } from '../../estate/postgres-server.ts'
import { migrationSeed } from '../../flags/phases.ts'
import { applyMigrations } from '../../runtime/apply-migrations.ts'
import { type Alternated, alternate, type Rounds } from './alternate.ts'

const root = join(import.meta.dirname, '../..')
const clients = 32

export interface TriggerBenchSize extends Rounds {
  readonly submitsPerRound: number
}

const now = 'bench_decide_now'
const before = 'bench_decide_before'

/**
 * Submits as the Shop does them, with 10 % in force, on a Shop DB as it is now against one as it was before phases moved on
 * evidence: without tokens, and without the index that plan, gates and retire look for orders by.
 */
export async function benchTrigger(
  postgres: PostgresServer,
  size: TriggerBenchSize,
): Promise<Alternated> {
  const [nowUrl, beforeUrl] = [await emptyShop(postgres, now), await emptyShop(postgres, before)]
  await applyMigrations(nowUrl, 'shop')
  for (const file of ['001_orders_direct.sql', '002_statuses_direct.sql'])
    await applyFile(beforeUrl, `migrations/shop/${file}`)
  for (const url of [nowUrl, beforeUrl]) await withClient(url, putTenPercentInForce)
  const { blocks, rounds, submitsPerRound } = size
  return alternate({ blocks, rounds }, (block, measure) => {
    // Neither is always the one that was copied last.
    const order = block % 2 === 0 ? ([before, now] as const) : ([now, before] as const)
    return withCopies(postgres, order, async (clientsOf) => {
      const peer = () => submits(clientsOf[before]!, submitsPerRound)
      const ours = () => submits(clientsOf[now]!, submitsPerRound)
      // Code is warm, and plans are made, before anything is counted.
      await peer()
      await ours()
      await measure({ peer, ours })
    })
  })
}

/** Fresh copies of these databases with the clients of the Shop on each; gone afterwards. */
async function withCopies(
  postgres: PostgresServer,
  names: readonly string[],
  work: (clientsOf: Readonly<Record<string, readonly pg.Client[]>>) => Promise<void>,
): Promise<void> {
  const clientsOf: Record<string, readonly pg.Client[]> = {}
  const open = async ([name, ...more]: readonly string[]): Promise<void> => {
    if (name === undefined) return work(clientsOf)
    const copy = `${name}_copy`
    await postgres.createDatabase(copy, { owner: 'shop', template: name })
    try {
      await withClients(postgres.urlFor(copy, 'shop'), (opened) => {
        clientsOf[name] = opened
        return open(more)
      })
    } finally {
      await withClient(postgres.url, (client) => client.query(`DROP DATABASE ${copy} WITH (FORCE)`))
    }
  }
  await open(names)
}

async function emptyShop(postgres: PostgresServer, name: string): Promise<string> {
  for (const role of ['shop', 'crm']) await postgres.createRole(role)
  const url = await postgres.createDatabase(name, { owner: 'shop' })
  await applyFile(postgres.urlFor(name, 'shop'), 'legacy/shop/schema.sql')
  return url
}

async function applyFile(url: string, file: string): Promise<void> {
  const sql = await readFile(join(root, file), 'utf8')
  await withClient(url, (client) => client.query(sql))
}

async function putTenPercentInForce(client: pg.Client): Promise<void> {
  await client.query(
    `INSERT INTO strangler.route (phase, epoch, share, seed) VALUES ('orders-direct', 1, 1000, $1)`,
    [migrationSeed],
  )
}

/** Connections as the Shop has them: no settings of ours. */
function withClients<Result>(
  url: string,
  work: (open: readonly pg.Client[]) => Promise<Result>,
  open: readonly pg.Client[] = [],
): Promise<Result> {
  if (open.length === clients) return work(open)
  return withClient(url, (client) => withClients(url, work, [...open, client]))
}

async function submits(open: readonly pg.Client[], count: number): Promise<Rate> {
  const { rows: orders } = await open[0]!.query<{ id: string }>(
    `INSERT INTO orders (id, status, material, quantity, model_key, model_sha256, model_bytes)
     SELECT gen_random_uuid(), 'FILE_UPLOADED', 'PLA', 1, 'models/ab/' || repeat('a', 64), repeat('a', 64), 571184
     FROM generate_series(1, $1::int) RETURNING id`,
    [count],
  )
  const latencies: number[] = []
  const began = performance.now()
  await Promise.all(
    open.map(async (client) => {
      for (let order = orders.pop(); order !== undefined; order = orders.pop()) {
        const at = performance.now()
        await client.query({
          name: 'submit',
          text: `UPDATE orders SET status = 'SUBMITTED', updated_at = now() WHERE id = $1 AND status = 'FILE_UPLOADED'`,
          values: [order.id],
        })
        latencies.push(performance.now() - at)
      }
    }),
  )
  return rateOf(count, performance.now() - began, latencies)
}
