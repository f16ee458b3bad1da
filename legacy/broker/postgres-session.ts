import { Client } from 'pg'

import type { Session } from './link.ts'

export type PostgresSession = Session & { readonly client: Client; isLost(): boolean }

export async function openPostgresSession(
  url: string,
  applicationName: string,
): Promise<PostgresSession> {
  const client = new Client({
    connectionString: url,
    application_name: applicationName,
    connectionTimeoutMillis: 5000,
    query_timeout: 15_000,
    keepAlive: true,
  })
  const lost = Promise.withResolvers<void>()
  let isLost = false
  const lose = () => {
    isLost = true
    lost.resolve()
  }
  client.on('error', lose)
  client.on('end', lose)
  try {
    await client.connect()
  } catch (error) {
    client.end().catch(() => {})
    throw error
  }
  return {
    client,
    lost: lost.promise,
    isLost: () => isLost,
    end: async () => {
      await client.end().catch(() => {})
      lose()
    },
  }
}
