import { runMigrations } from 'bullmq'
import pg from 'pg'

import { doorbellKind } from './doorbell.ts'

/** Makes BullMQ's tables where the doorbell is PostgreSQL (nothing else calls its migrations); a Redis needs nothing. */
export async function prepareDoorbell(url: string): Promise<'prepared' | 'nothing to do'> {
  if (doorbellKind(url) === 'redis') return 'nothing to do'
  const client = new pg.Client({ connectionString: url, application_name: 'strangler-migrate' })
  await client.connect()
  try {
    await runMigrations(client)
    return 'prepared'
  } finally {
    await client.end()
  }
}
