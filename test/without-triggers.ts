import type { Estate } from '../estate/estate.ts'
import { withClient } from '../estate/postgres-server.ts'

/** One statement past fence and capture, which are not about what a test does. */
export function withoutTriggers<Row extends object>(
  estate: Estate,
  database: keyof Estate['databases'],
  sql: string,
  ...values: unknown[]
): Promise<Row[]> {
  return withClient(estate.databases[database], async (client) => {
    await client.query('SET session_replication_role = replica')
    return (await client.query<Row>(sql, values)).rows
  })
}
