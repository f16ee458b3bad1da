import { readFile } from 'node:fs/promises'

import { startEmbeddedPostgres } from '../estate/embedded-postgres.ts'
import { withClient } from '../estate/postgres-server.ts'
import { applyMigrations } from '../runtime/apply-migrations.ts'
import { createLog } from '../runtime/log.ts'
import { createPool } from '../runtime/postgres.ts'
import type { Pool } from '../runtime/postgres.ts'

export interface EstateDatabases {
  readonly shop: Pool
  readonly ledger: Pool
  readonly mes: Pool
  readonly urls: {
    readonly shop: string
    readonly ledger: string
    readonly mes: string
    readonly broker: string
  }
  stop(): Promise<void>
}

/** The Shop's, the MES's, the embedded broker's and our own database on a server of their own, as after `strangler migrate`. */
export async function startEstateDatabases(): Promise<EstateDatabases> {
  const server = await startEmbeddedPostgres()
  try {
    for (const role of ['shop', 'crm', 'mes']) await server.createRole(role)
    const urls = {
      shop: await server.createDatabase('shop', { owner: 'shop' }),
      ledger: await server.createDatabase('strangler'),
      mes: await server.createDatabase('mes', { owner: 'mes' }),
      broker: await server.createDatabase('broker'),
    }
    await createLegacyTables(urls.shop, 'shop')
    await createLegacyTables(urls.mes, 'mes')
    await createLegacyTables(urls.broker, 'broker')
    await applyMigrations(urls.shop, 'shop')
    await applyMigrations(urls.ledger, 'strangler')
    await applyMigrations(urls.mes, 'mes')
    const log = createLog('test')
    const pools = {
      shop: createPool(urls.shop, { name: 'test', max: 20, log }),
      ledger: createPool(urls.ledger, { name: 'test', max: 8, log }),
      mes: createPool(urls.mes, { name: 'test', log }),
    }
    return {
      ...pools,
      urls,
      async stop() {
        await Promise.all(Object.values(pools).map((pool) => pool.end()))
        await server.stop()
      },
    }
  } catch (error) {
    await server.stop()
    throw error
  }
}

async function createLegacyTables(url: string, system: 'shop' | 'mes' | 'broker'): Promise<void> {
  const sql = await readFile(new URL(`../legacy/${system}/schema.sql`, import.meta.url), 'utf8')
  await withClient(url, async (client) => {
    if (system !== 'broker') await client.query(`SET ROLE ${system}`)
    await client.query(sql)
  })
}

/** An order as the Shop writes it on submit; the trigger decides. */
export async function submitOrder(shop: Pool, id: string, source = 'shop'): Promise<void> {
  await shop.query(
    `INSERT INTO public.orders (id, source, status, material, quantity, model_key, model_sha256, model_bytes)
     VALUES ($1::uuid, $2, 'SUBMITTED', 'PLA', 1, 'models/' || $1::uuid, repeat('a', 64), 10)`,
    [id, source],
  )
}
