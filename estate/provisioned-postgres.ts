import { type EmbeddedPostgres, startEmbeddedPostgres } from './embedded-postgres.ts'
import { preparedFrom } from './prepared-data.ts'
import { provision } from './provision.ts'

/** What decides how `provision` leaves a server; the lock for what BullMQ's own migrations make. */
const ingredients = [
  'migrations',
  'legacy/shop/schema.sql',
  'legacy/mes/schema.sql',
  'legacy/broker/schema.sql',
  'estate',
  'runtime/apply-migrations.ts',
  'delivery/prepare-doorbell.ts',
  'scripts/commands/migrate.ts',
  'package-lock.json',
]

/** An embedded server with the databases of the estate on it. */
export function startProvisionedPostgres(
  settings: Readonly<Record<string, string>> = {},
): Promise<EmbeddedPostgres> {
  return startEmbeddedPostgres({
    settings: { 'pg_stat_statements.track': 'all', ...settings },
    filled: {
      data: preparedFrom('estate', ingredients),
      make: (server) => provision(server, ''),
    },
  })
}
