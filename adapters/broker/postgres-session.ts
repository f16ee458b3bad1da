import pg from 'pg'

import { asStranglerError } from '../../contracts/errors.ts'

/** One connection that is somebody: it holds advisory locks, and their end is its end. */
export interface PostgresSession {
  readonly client: pg.Client
  readonly alive: boolean
  onLost(listener: () => void): void
  end(): Promise<void>
}

/** @throws StranglerError `broker_unreachable` */
export async function openPostgresSession(
  url: string,
  applicationName: string,
): Promise<PostgresSession> {
  const client = new pg.Client({
    connectionString: url,
    application_name: applicationName,
    connectionTimeoutMillis: 5000,
    keepAlive: true,
  })
  let alive = true
  const listeners: (() => void)[] = []
  const lost = (): void => {
    if (!alive) return
    alive = false
    for (const listener of listeners) listener()
  }
  // Without a listener an 'error' would end the process.
  client.on('error', lost)
  client.on('end', lost)
  try {
    await client.connect()
  } catch (error) {
    await client.end().catch(() => undefined)
    throw asStranglerError(error, 'broker_unreachable')
  }
  return {
    client,
    get alive() {
      return alive
    },
    onLost(listener) {
      if (alive) listeners.push(listener)
      else listener()
    },
    async end() {
      // With a statement in flight this cuts the connection instead of waiting for the answer.
      await client.end().catch(() => undefined)
      lost()
    },
  }
}
