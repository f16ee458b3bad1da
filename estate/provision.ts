import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

import { type PostgresServer, withClient } from './postgres-server.ts'

const root = join(import.meta.dirname, '..')

/** Superuser URLs. */
export type EstateDatabases = Readonly<
  Record<'shop' | 'mes' | 'ledger' | 'broker' | 'doorbell', string>
>

/** The databases of the estate with their owners and the legacy schemas; nothing of the toolkit yet. */
export async function createDatabases(
  postgres: PostgresServer,
  prefix: string,
): Promise<EstateDatabases> {
  for (const role of ['shop', 'crm', 'mes', 'broker_user', 'doorbell_user'])
    await postgres.createRole(role)
  const shop = await postgres.createDatabase(`${prefix}shop`, { owner: 'shop' })
  const mes = await postgres.createDatabase(`${prefix}mes`, { owner: 'mes' })
  await applySql(postgres.urlFor(`${prefix}shop`, 'shop'), 'legacy/shop/schema.sql')
  await applySql(postgres.urlFor(`${prefix}mes`, 'mes'), 'legacy/mes/schema.sql')
  return {
    shop,
    mes,
    ledger: await postgres.createDatabase(`${prefix}ledger`),
    broker: await postgres.createDatabase(`${prefix}broker`),
    doorbell: await postgres.createDatabase(`${prefix}doorbell`, { owner: 'doorbell_user' }),
  }
}

export async function prepareEmbeddedBroker(url: string): Promise<void> {
  await applySql(url, 'legacy/broker/schema.sql')
  await withClient(url, (client) =>
    client.query(`
      GRANT USAGE ON SCHEMA amq TO broker_user;
      GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA amq TO broker_user;
      GRANT USAGE ON ALL SEQUENCES IN SCHEMA amq TO broker_user`),
  )
}

/** A login for each job, member of the group role that the migrations made for it. */
export async function makeLoginRoles(postgres: PostgresServer, ledgerUrl: string): Promise<void> {
  for (const job of [
    'proxy',
    'relay',
    'bridge',
    'courier',
    'watch',
    'applier',
    'shadow',
    'operator',
  ]) {
    await postgres.createRole(`${job}_login`)
    const groups = [
      `strangler_${job}`,
      ...(['bridge', 'watch', 'operator'].includes(job) ? ['strangler_mes_reader'] : []),
    ]
    await withClient(ledgerUrl, (client) =>
      client.query(`GRANT ${groups.join(', ')} TO ${job}_login`),
    )
  }
}

async function applySql(url: string, file: string): Promise<void> {
  const sql = await readFile(join(root, file), 'utf8')
  await withClient(url, (client) => client.query(sql))
}
