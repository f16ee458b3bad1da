import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

import { type PostgresServer, withClient } from './postgres-server.ts'
import { strangler } from './strangler-command.ts'

const root = join(import.meta.dirname, '..')

/** Superuser URLs. */
export type EstateDatabases = Readonly<
  Record<'shop' | 'mes' | 'ledger' | 'intake' | 'broker' | 'doorbell', string>
>

export function databasesOn(postgres: PostgresServer, prefix: string): EstateDatabases {
  const url = (name: string): string => postgres.urlFor(`${prefix}${name}`)
  return {
    shop: url('shop'),
    mes: url('mes'),
    ledger: url('ledger'),
    intake: url('intake'),
    broker: url('broker'),
    doorbell: url('doorbell'),
  }
}

/** Everything that the estate's processes find on a server: databases, roles, and what `strangler migrate` brings. */
export async function provision(
  postgres: PostgresServer,
  prefix: string,
  queueUrl = postgres.urlFor(`${prefix}doorbell`, 'doorbell_user'),
): Promise<void> {
  await createDatabases(postgres, prefix)
  const { shop, mes, ledger, intake, broker } = databasesOn(postgres, prefix)
  await prepareEmbeddedBroker(broker)
  const urls = { SHOP_URL: shop, LEDGER_URL: ledger, MES_URL: mes, INTAKE_URL: intake }
  for (const command of [['migrate'], ['migrate', '--only', 'intake']]) {
    const migrated = await strangler(command, { ...urls, QUEUE_URL: queueUrl })
    if (migrated.code !== 0)
      throw new Error(`strangler migrate ended with ${migrated.code}:\n${migrated.stderr}`)
  }
  await makeLoginRoles(postgres, ledger)
}

/** The databases of the estate with their owners and the legacy schemas; nothing of the toolkit yet. */
async function createDatabases(postgres: PostgresServer, prefix: string): Promise<void> {
  for (const role of ['shop', 'crm', 'mes', 'broker_user', 'doorbell_user'])
    await postgres.createRole(role)
  await postgres.createDatabase(`${prefix}shop`, { owner: 'shop' })
  await postgres.createDatabase(`${prefix}mes`, { owner: 'mes' })
  await applySql(postgres.urlFor(`${prefix}shop`, 'shop'), 'legacy/shop/schema.sql')
  await applySql(postgres.urlFor(`${prefix}mes`, 'mes'), 'legacy/mes/schema.sql')
  await postgres.createDatabase(`${prefix}ledger`)
  await postgres.createDatabase(`${prefix}intake`)
  await postgres.createDatabase(`${prefix}broker`)
  await postgres.createDatabase(`${prefix}doorbell`, { owner: 'doorbell_user' })
}

async function prepareEmbeddedBroker(url: string): Promise<void> {
  await applySql(url, 'legacy/broker/schema.sql')
  await withClient(url, (client) =>
    client.query(`
      GRANT USAGE ON SCHEMA amq TO broker_user;
      GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA amq TO broker_user;
      GRANT USAGE ON ALL SEQUENCES IN SCHEMA amq TO broker_user`),
  )
}

/** A login for each job, member of the group role that the migrations made for it. */
async function makeLoginRoles(postgres: PostgresServer, ledgerUrl: string): Promise<void> {
  for (const job of [
    'proxy',
    'relay',
    'bridge',
    'courier',
    'watch',
    'applier',
    'shadow',
    'intake',
    'partner_relay',
    'partner_feed',
    'partner_webhooks',
    'operator',
    'reconciler',
    'console',
  ]) {
    await postgres.createRole(`${job}_login`)
    const groups = [
      // The reconciler does what operators do, and only that.
      job === 'reconciler' ? 'strangler_operator' : `strangler_${job}`,
      ...(['bridge', 'watch', 'operator', 'reconciler', 'partner_feed'].includes(job)
        ? ['strangler_mes_reader']
        : []),
      ...(job === 'operator' ? ['strangler_console_admin'] : []),
      // What an operator may do by command, one may do on the page.
      ...(job === 'console' ? ['strangler_operator'] : []),
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
