import { Pool, types } from 'pg'

import type { Log } from './log.ts'

/** Connections lost while PostgreSQL is away are replaced one by one; waiting for one has an end. */
export function openDatabase(url: string, applicationName: string, log: Log): Pool {
  const pool = new Pool({
    connectionString: url,
    application_name: applicationName,
    max: 10,
    connectionTimeoutMillis: 5000,
    query_timeout: 30_000,
    keepAlive: true,
    types: {
      getTypeParser: (oid, format) =>
        // Identities and byte counts stay far below 2^53; numeric stays the exact text.
        oid === types.builtins.INT8 ? Number : types.getTypeParser(oid, format),
    },
  })
  pool.on('error', (error) => log('database_connection_lost', { reason: error.message }))
  return pool
}
