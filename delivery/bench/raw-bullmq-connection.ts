import { createPostgresBackend, type QueueOptions } from 'bullmq'

export function connectionOf(url: string, prefix: string): QueueOptions {
  if (!url.startsWith('postgres'))
    return { connection: { url, maxRetriesPerRequest: null }, prefix }
  const connection: Record<string, unknown> = { connectionString: url, max: 16 }
  return { connection }
}

/** BullMQ's third argument: its PostgreSQL backend, or nothing for Redis. */
export function backendOf(url: string): [] | [never] {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the backend's generics do not fit the classes' own
  return url.startsWith('postgres') ? [createPostgresBackend as never] : []
}
