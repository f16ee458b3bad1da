import test from 'ava'
import pg from 'pg'

import { StranglerError } from '../contracts/errors.ts'
import { startEmbeddedPostgres } from '../estate/embedded-postgres.ts'
import { applyMigrations, missingMigrations, requireMigrations } from './apply-migrations.ts'

const server = await startEmbeddedPostgres()
test.after.always(() => server.stop())

async function tablesIn(url: string, schema: string): Promise<string[]> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const { rows } = await client.query<{ name: string }>(
      'SELECT table_name AS name FROM information_schema.tables WHERE table_schema = $1 ORDER BY 1',
      [schema],
    )
    return rows.map((row) => row.name)
  } finally {
    await client.end()
  }
}

test('applies every file once, and says which were there already', async (t) => {
  const url = await server.createDatabase('twice')
  const first = await applyMigrations(url, 'strangler')
  t.true(first.applied.length > 0)
  t.deepEqual(first.already, [])
  const second = await applyMigrations(url, 'strangler')
  t.deepEqual(second, { applied: [], already: first.applied })
})

test('two runners at once: every file is applied by exactly one of them', async (t) => {
  const url = await server.createDatabase('together')
  const runs = await Promise.all([
    applyMigrations(url, 'strangler'),
    applyMigrations(url, 'strangler'),
    applyMigrations(url, 'strangler'),
  ])
  const applied = runs.flatMap((run) => run.applied)
  t.true(applied.length > 0)
  t.is(new Set(applied).size, applied.length)
  t.deepEqual(await missingMigrations(url, 'strangler'), [])
})

test('keeps its books out of the public schema', async (t) => {
  const url = await server.createDatabase('books')
  await applyMigrations(url, 'strangler')
  t.false((await tablesIn(url, 'public')).some((name) => name.startsWith('knex')))
  t.deepEqual(await tablesIn(url, 'strangler_migrations'), [
    'knex_migrations',
    'knex_migrations_lock',
  ])
})

test('a process refuses a database without our migrations, and says which', async (t) => {
  const url = await server.createDatabase('bare')
  const error = await t.throwsAsync(requireMigrations(url, 'strangler'), {
    instanceOf: StranglerError,
  })
  t.is(error.code, 'migration_missing')
  t.regex(error.message, /001_ledger\.sql.*strangler migrate --only strangler/)
  await applyMigrations(url, 'strangler')
  await t.notThrowsAsync(requireMigrations(url, 'strangler'))
})

test('a migration that fails leaves nothing of itself, and the lock free', async (t) => {
  // The Shop's migration needs the Shop's tables, which are not here.
  const url = await server.createDatabase('no_shop')
  await t.throwsAsync(applyMigrations(url, 'shop'), { message: /public\.orders|does not exist/ })
  t.deepEqual(await tablesIn(url, 'strangler'), [])
  await t.throwsAsync(applyMigrations(url, 'shop'), { message: /public\.orders|does not exist/ })
})
