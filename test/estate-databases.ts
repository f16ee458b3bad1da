import { databasesOn } from '../estate/provision.ts'
import { startProvisionedPostgres } from '../estate/provisioned-postgres.ts'
import { createLog } from '../runtime/log.ts'
import { createPool } from '../runtime/postgres.ts'
import type { Client, Pool } from '../runtime/postgres.ts'

export interface EstateDatabases {
  readonly shop: Pool
  readonly ledger: Pool
  readonly mes: Pool
  readonly intake: Pool
  readonly urls: {
    readonly shop: string
    readonly ledger: string
    readonly mes: string
    readonly intake: string
    readonly broker: string
  }
  stop(): Promise<void>
}

/** The estate's databases on a server of their own, as after `strangler migrate`; no process. */
export async function startEstateDatabases(): Promise<EstateDatabases> {
  const server = await startProvisionedPostgres()
  try {
    const urls = databasesOn(server, '')
    const log = createLog('test')
    const pools = {
      shop: createPool(urls.shop, { name: 'test', max: 20, log }),
      ledger: createPool(urls.ledger, { name: 'test', max: 8, log }),
      mes: createPool(urls.mes, { name: 'test', log }),
      intake: createPool(urls.intake, { name: 'test', log }),
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

/** An order as the Shop writes it on submit; the trigger decides. */
export async function submitOrder(shop: Pool | Client, id: string, source = 'shop'): Promise<void> {
  await shop.query(
    `INSERT INTO public.orders (id, source, status, material, quantity, model_key, model_sha256, model_bytes)
     VALUES ($1::uuid, $2, 'SUBMITTED', 'PLA', 1, 'models/' || $1::uuid, repeat('a', 64), 10)`,
    [id, source],
  )
}
