import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'

import type { ExecutionContext } from 'ava'
import pg from 'pg'

import type { Estate } from '../estate/estate.ts'
import { withClient } from '../estate/postgres-server.ts'
import { expectEachOnce, secondSends } from './direct-way-fixture.ts'
import { storeModel } from './shop-orders-by-sql.ts'

interface CustomersOptions {
  readonly count?: number
  /** Of each customer, between two orders. */
  readonly pauseMs?: number
}

/** Customers who go on submitting orders, also while the Shop's server fails them. Each order is tried once. */
export interface Customers {
  /** The submit's commit was answered. */
  readonly acknowledged: readonly string[]
  /** Refused, or the answer never came: the customer does not know. */
  readonly unanswered: readonly string[]
  /** What the refusals said. */
  readonly refusals: ReadonlySet<string>
  /** Resolves when everyone has finished the order in hand; safe twice. */
  stop(): Promise<void>
}

export async function customersOf(
  estate: Estate,
  { count = 4, pauseMs = 20 }: CustomersOptions = {},
): Promise<Customers> {
  const model = await storeModel(estate)
  const shop = new URL(estate.databases.shop).pathname.slice(1)
  const url = estate.postgres.urlFor(shop, 'shop')
  const acknowledged: string[] = []
  const unanswered: string[] = []
  const refusals = new Set<string>()
  const over = new AbortController()

  const customer = async (): Promise<void> => {
    let client: pg.Client | undefined
    while (!over.signal.aborted) {
      const id = randomUUID()
      try {
        client ??= await connected(url)
        await client.query(
          `INSERT INTO orders (id, status, material, quantity, model_key, model_sha256, model_bytes) VALUES ($1, 'FILE_UPLOADED', 'PLA', 1, $2, $3, $4)`,
          [id, model.key, model.sha256, model.bytes],
        )
        await client.query(
          `UPDATE orders SET status = 'SUBMITTED', updated_at = now() WHERE id = $1 AND status = 'FILE_UPLOADED'`,
          [id],
        )
        acknowledged.push(id)
      } catch (error) {
        unanswered.push(id)
        refusals.add(error instanceof Error ? error.message : String(error))
        await client?.end().catch(() => undefined)
        client = undefined
      }
      await delay(pauseMs, undefined, { signal: over.signal }).catch(() => undefined)
    }
    await client?.end().catch(() => undefined)
  }
  const all = Array.from({ length: count }, customer)
  return {
    acknowledged,
    unanswered,
    refusals,
    async stop() {
      over.abort()
      await Promise.all(all)
    },
  }
}

async function connected(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5000 })
  // The next statement fails, and that is where it is heard.
  client.on('error', () => undefined)
  await client.connect()
  return client
}

/** What the Shop DB says was submitted, whatever its customers were told. */
export async function submittedOf(estate: Estate): Promise<string[]> {
  return withClient(estate.databases.shop, async (client) => {
    const { rows } = await client.query<{ id: string }>(
      `SELECT id::text FROM orders WHERE status NOT IN ('INITIATED', 'FILE_UPLOADED')`,
    )
    return rows.map((row) => row.id)
  })
}

/** Nobody was told "submitted" in vain, and what was committed has arrived, once, and was sent once. */
export async function expectHonest(
  t: ExecutionContext,
  estate: Estate,
  customers: Customers,
): Promise<void> {
  await customers.stop()
  const submitted = await submittedOf(estate)
  const known = new Set(submitted)
  t.deepEqual(
    customers.acknowledged.filter((id) => !known.has(id)),
    [],
    'every acknowledged submit is in the Shop DB',
  )
  await expectEachOnce(t, estate, submitted)
  t.is(await secondSends(estate), 0)
}
