import { readdir, readFile } from 'node:fs/promises'

import knex from 'knex'
import type { Knex } from 'knex'
import pg from 'pg'

import { StranglerError } from '../contracts/errors.ts'

const folders = ['shop', 'strangler', 'mes', 'intake'] as const
export type MigrationFolder = (typeof folders)[number]

/** Of our own, so that nothing of our bookkeeping lies between the tables of a legacy system. */
const bookkeepingSchema = 'strangler_migrations'
/** Class of the advisory lock of a runner, of no other lock in these databases (42 to 45 are taken). */
const runnerLock = 46

export interface MigrationReport {
  readonly applied: string[]
  readonly already: string[]
}

/**
 * Applies `migrations/<folder>/*.sql` in the order of their numbers, each file in a transaction of its own: a file that
 * fails leaves those before it. Safe to repeat, and with several runners at once: the second waits, then finds all done.
 */
export async function applyMigrations(
  url: string,
  folder: MigrationFolder,
): Promise<MigrationReport> {
  const source = sqlFiles(folder)
  const known = await source.getMigrations([])
  const lock = new pg.Client({ connectionString: url, application_name: 'strangler-migrate' })
  const database = knex({
    client: 'pg',
    connection: { connectionString: url, application_name: 'strangler-migrate' },
    pool: { min: 0, max: 2 },
    migrations: { migrationSource: source, schemaName: bookkeepingSchema },
    // What failed is thrown; knex would print it as well.
    log: { warn: () => undefined, error: () => undefined },
  })
  try {
    await lock.connect()
    // knex makes its own tables before it locks them, and two runners would collide there.
    await lock.query('SELECT pg_advisory_lock($1, 0)', [runnerLock])
    await lock.query(`CREATE SCHEMA IF NOT EXISTS ${bookkeepingSchema}`)
    const applied: string[] = []
    let collisions = 0
    for (;;) {
      try {
        const [, names]: [number, string[]] = await database.migrate.up()
        if (names.length === 0) break
        applied.push(...names)
      } catch (error) {
        if (!isRoleCollision(error) || collisions === 10) throw error
        collisions += 1
      }
    }
    // Any role of ours may ask whether the database is ready for it.
    await lock.query(
      `GRANT USAGE ON SCHEMA ${bookkeepingSchema} TO PUBLIC; GRANT SELECT ON ${bookkeepingSchema}.knex_migrations TO PUBLIC`,
    )
    return { applied, already: known.filter((name) => !applied.includes(name)) }
  } finally {
    await database.destroy()
    await lock.end()
  }
}

/**
 * For the start of a process: refuses a database that lacks files of ours.
 * @throws StranglerError `migration_missing`
 */
export async function requireMigrations(url: string, folder: MigrationFolder): Promise<void> {
  const missing = await missingMigrations(url, folder)
  if (missing.length === 0) return
  throw new StranglerError(
    'migration_missing',
    `${folder}: ${missing.join(', ')}; run "strangler migrate --only ${folder}"`,
  )
}

/** The files of a folder that the database has not seen. */
export async function missingMigrations(url: string, folder: MigrationFolder): Promise<string[]> {
  const known = await sqlFiles(folder).getMigrations([])
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5000 })
  try {
    await client.connect()
    const { rows } = await client.query<{ made: boolean }>(
      'SELECT to_regclass($1) IS NOT NULL AS made',
      [`${bookkeepingSchema}.knex_migrations`],
    )
    if (rows[0]?.made !== true) return known
    const done = await client.query<{ name: string }>(
      `SELECT name FROM ${bookkeepingSchema}.knex_migrations`,
    )
    const names = new Set(done.rows.map((row) => row.name))
    return known.filter((name) => !names.has(name))
  } finally {
    await client.end()
  }
}

function sqlFiles(folder: MigrationFolder): Knex.MigrationSource<string> {
  const directory = new URL(`../migrations/${folder}/`, import.meta.url)
  return {
    async getMigrations() {
      const names = (await readdir(directory)).filter((name) => /^\d{3}_\w+\.sql$/.test(name))
      if (names.length === 0) {
        throw new StranglerError(
          'invalid_argument',
          `no numbered .sql file in ${directory.pathname}`,
        )
      }
      return names.toSorted()
    },
    getMigrationName: (name) => name,
    async getMigration(name) {
      const sql = await readFile(new URL(name, directory), 'utf8')
      return {
        // knex takes every ? for a parameter, also in a comment or a jsonb operator.
        up: (trx) =>
          trx.raw(sql.replaceAll('?', String.raw`\?`)).catch((error: unknown) => {
            throw withoutSql(error, `migrations/${folder}/${name}`)
          }),
        down: () => Promise.reject(new Error(`${name} has no way down: write a new file`)),
      }
    },
  }
}

/** Roles belong to the whole server: a runner of another database may make the same one at the same moment. */
function isRoleCollision(error: unknown): boolean {
  return (
    error instanceof StranglerError &&
    error.cause instanceof pg.DatabaseError &&
    error.cause.constraint === 'pg_authid_rolname_index'
  )
}

/** knex puts the whole file in front of what PostgreSQL said. */
function withoutSql(error: unknown, file: string): unknown {
  if (!(error instanceof pg.DatabaseError)) return error
  return new StranglerError(
    'refused',
    `${file}: ${error.message.slice(error.message.lastIndexOf(' - ') + 3)}`,
    error,
  )
}
