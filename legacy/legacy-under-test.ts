import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

import { Client, Pool, type QueryResultRow } from 'pg'

import { spawnNode, type NodeProcess } from '../estate/child-process.ts'
import { startEmbeddedPostgres } from '../estate/embedded-postgres.ts'

type Database = 'shop' | 'mes' | 'broker'

export type LegacyUnderTest = {
  readonly models: string
  readonly urls: Readonly<Record<'shop' | 'crm' | 'mes' | 'broker', string>>
  query<R extends QueryResultRow>(
    database: Database,
    text: string,
    values?: readonly unknown[],
  ): Promise<R[]>
  start(service: 'shop' | 'crm' | 'mes', env?: Readonly<Record<string, string>>): Promise<Started>
  /** Kills the server and starts it again. */
  killPostgres(): Promise<void>
  stop(): Promise<void>
}

export type Started = {
  readonly origin: string
  readonly process: NodeProcess
}

/** A PostgreSQL of its own with the three databases, and the stand-ins as processes of their own. */
export async function legacyUnderTest(): Promise<LegacyUnderTest> {
  const postgres = await startEmbeddedPostgres()
  const models = await mkdtemp(join(tmpdir(), 'legacy-models-'))
  const started: NodeProcess[] = []
  const pools = new Map<Database, Pool>()

  for (const role of ['shop', 'crm', 'mes']) await postgres.createRole(role)
  const shop = await postgres.createDatabase('shop', { owner: 'shop' })
  const mes = await postgres.createDatabase('mes', { owner: 'mes' })
  const broker = await postgres.createDatabase('broker')
  const urls = { shop, mes, broker }
  const roleUrls = {
    shop: postgres.urlFor('shop', 'shop'),
    crm: postgres.urlFor('shop', 'crm'),
    mes: postgres.urlFor('mes', 'mes'),
    broker,
  }
  await applySchema(roleUrls.shop, 'shop')
  await applySchema(roleUrls.mes, 'mes')
  await applySchema(broker, 'broker')

  const poolOf = (database: Database): Pool => {
    const pool = pools.get(database) ?? new Pool({ connectionString: urls[database], max: 2 })
    if (!pools.has(database)) pool.on('error', () => {})
    pools.set(database, pool)
    return pool
  }

  return {
    models,
    urls: roleUrls,
    query: async <R extends QueryResultRow>(
      database: Database,
      text: string,
      values: readonly unknown[] = [],
    ) => (await poolOf(database).query<R>(text, [...values])).rows,
    start: async (service, env = {}) => {
      const child = spawnNode(service, join(import.meta.dirname, service, 'main.ts'), {
        env: {
          SHOP_DATABASE_URL: service === 'crm' ? roleUrls.crm : roleUrls.shop,
          MES_DATABASE_URL: roleUrls.mes,
          BROKER_URL: broker,
          MODEL_DIR: models,
          CRM_POLL_MS: '20',
          ...env,
        },
      })
      started.push(child)
      await child.ready
      return { origin: `http://127.0.0.1:${child.port}`, process: child }
    },
    killPostgres: () => postgres.restart('kill9'),
    stop: async () => {
      await Promise.all(started.map((child) => child.terminate()))
      await Promise.all([...pools.values()].map((pool) => pool.end()))
      await postgres.stop()
      await rm(models, { recursive: true, force: true })
    },
  }
}

async function applySchema(url: string, part: string): Promise<void> {
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(await readFile(join(import.meta.dirname, part, 'schema.sql'), 'utf8'))
  } finally {
    await client.end()
  }
}

export async function readJson<T>(response: Response): Promise<T> {
  const value: T = JSON.parse(await response.text())
  return value
}

/** Asks until there is an answer; a test that waits in vain fails at its own time limit. */
export async function eventually<T>(look: () => Promise<T | undefined | false>): Promise<T> {
  for (;;) {
    const found = await look()
    if (found !== undefined && found !== false) return found
    await delay(10)
  }
}
