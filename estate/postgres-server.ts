import { createHmac } from 'node:crypto'

import pg from 'pg'

export interface CreateDatabaseOptions {
  readonly owner?: string
  /** A database to copy instead of the empty one; nobody may be connected to it. */
  readonly template?: string
}

export type PostgresRestart = 'fast' | 'immediate' | 'kill9'

/** One PostgreSQL server with a database for each part of the estate. */
export interface PostgresServer {
  /** Superuser. */
  readonly url: string
  readonly port: number
  /** The view `pg_stat_statements` can be read through `url`; it covers all databases. */
  readonly hasStatementStatistics: boolean
  /** Returns the superuser's URL of the new database. */
  createDatabase(name: string, options?: CreateDatabaseOptions): Promise<string>
  /** A role that may log in. Safe to repeat: the name always gets the same password. */
  createRole(name: string): Promise<{ name: string; password: string }>
  /** The superuser's URL, or that of a role made by `createRole`. */
  urlFor(database: string, role?: string): string
  /** Same port and data. Resolves when connections are accepted again. */
  restart(mode: PostgresRestart): Promise<void>
  /** SIGSTOP of the server and all its backends: connections hang, none is refused. */
  pause(): void
  resume(): void
  stop(): Promise<void>
}

/** A server of one's own, told by URL: what needs the server's process is refused. */
export async function connectPostgresServer(superuserUrl: string): Promise<PostgresServer> {
  const hasStatementStatistics = await withClient(superuserUrl, async (client) => {
    const { rows } = await client.query<{ superuser: boolean; loaded: boolean }>(
      `select rolsuper as superuser,
              exists (select from pg_extension where extname = 'pg_stat_statements')
                and current_setting('shared_preload_libraries') like '%pg_stat_statements%' as loaded
         from pg_roles where rolname = current_user`,
    )
    if (rows[0]?.superuser !== true) {
      throw new Error(`${withoutPassword(superuserUrl)}: expected a superuser`)
    }
    return rows[0].loaded
  })
  const refuse = (verb: string): never => {
    throw new Error(
      `cannot ${verb} ${withoutPassword(superuserUrl)}: it is a server of your own, told by URL; ` +
        `leave the URL out to get an embedded one`,
    )
  }
  return {
    url: superuserUrl,
    port: Number(new URL(superuserUrl).port || 5432),
    hasStatementStatistics,
    ...databasesOf(superuserUrl, dropOnlyOurs),
    restart: async () => refuse('restart'),
    pause: () => refuse('pause'),
    resume: () => refuse('resume'),
    stop: async () => {},
  }
}

/** What to do when the database to create is there already. */
type OnExistingDatabase = (client: pg.Client, name: string) => Promise<'keep' | 'create'>

/** Our own server: the data is ours, and was there because its folder is being used again. */
export const keepExisting: OnExistingDatabase = async () => 'keep'

const dropOnlyOurs: OnExistingDatabase = async (client, name) => {
  if (!name.startsWith('strangler_')) {
    throw new Error(
      `database "${name}" exists on a server that is not ours; only names that start with ` +
        `"strangler_" are dropped and made anew`,
    )
  }
  await client.query(`drop database ${client.escapeIdentifier(name)} with (force)`)
  return 'create'
}

export function databasesOf(
  superuserUrl: string,
  onExisting: OnExistingDatabase,
): Pick<PostgresServer, 'createDatabase' | 'createRole' | 'urlFor'> {
  // Derived, not stored: the same role on the same server has the same password in every process
  // and after every start.
  const passwordOf = (role: string): string =>
    createHmac('sha256', new URL(superuserUrl).password || 'no password')
      .update(role)
      .digest('hex')

  const urlFor = (database: string, role?: string): string => {
    const url = new URL(superuserUrl)
    url.pathname = `/${encodeURIComponent(database)}`
    if (role !== undefined) {
      url.username = encodeURIComponent(role)
      url.password = passwordOf(role)
    }
    return url.href
  }

  return {
    urlFor,
    createRole: (name) =>
      withClient(superuserUrl, async (client) => {
        const password = passwordOf(name)
        const role = client.escapeIdentifier(name)
        const existing = await client.query('select from pg_roles where rolname = $1', [name])
        const verb = existing.rowCount === 0 ? 'create' : 'alter'
        await client.query(`${verb} role ${role} login password '${password}'`)
        return { name, password }
      }),
    createDatabase: (name, options = {}) =>
      withClient(superuserUrl, async (client) => {
        const existing = await client.query('select from pg_database where datname = $1', [name])
        if (existing.rowCount !== 0 && (await onExisting(client, name)) === 'keep') {
          return urlFor(name)
        }
        const owner = options.owner ? ` owner ${client.escapeIdentifier(options.owner)}` : ''
        const template = options.template
          ? ` template ${client.escapeIdentifier(options.template)}`
          : ''
        await client.query(`create database ${client.escapeIdentifier(name)}${owner}${template}`)
        return urlFor(name)
      }),
  }
}

export async function withClient<T>(
  url: string,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

function withoutPassword(url: string): string {
  const shown = new URL(url)
  shown.password = ''
  return shown.href
}
