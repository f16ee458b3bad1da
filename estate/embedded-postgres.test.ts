import { chmodSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import test from 'ava'
import pg from 'pg'

import { startEmbeddedPostgres } from './embedded-postgres.ts'
import type { EmbeddedPostgres } from './embedded-postgres.ts'
import { startMortalParent } from './mortal-parent.ts'
import { connectPostgresServer, withClient } from './postgres-server.ts'
import { descendantsOf, isRunning } from './process-table.ts'
import { goneFromTable } from './process-tree.ts'

let server: EmbeddedPostgres

test.before(async () => {
  server = await startEmbeddedPostgres()
})

test.after.always(async () => {
  await server?.stop()
})

async function valueOf(url: string, sql: string): Promise<unknown> {
  return withClient(url, async (client) => {
    const { rows } = await client.query<Record<string, unknown>>(sql)
    return Object.values(rows[0] ?? {})[0]
  })
}

test.serial('is durable, logical, of UTF-8, and asks for the password', async (t) => {
  t.is(await valueOf(server.url, 'show fsync'), 'on')
  t.is(await valueOf(server.url, 'show synchronous_commit'), 'on')
  t.is(await valueOf(server.url, 'show wal_level'), 'logical')
  t.is(await valueOf(server.url, 'show max_connections'), '300')
  t.is(await valueOf(server.url, 'show server_encoding'), 'UTF8')
  const wrong = new URL(server.url)
  wrong.password = 'wrong'
  await t.throwsAsync(valueOf(wrong.href, 'select 1'), { message: /password authentication/ })
})

test.serial('counts statements of all databases', async (t) => {
  t.true(server.hasStatementStatistics)
  const counted = await server.createDatabase('counted')
  await valueOf(counted, 'select 4711 as of_the_counted_database')
  const calls = await valueOf(
    server.url,
    `select sum(calls)::int from pg_stat_statements where query like '%of_the_counted_database%'`,
  )
  t.is(calls, 1)
})

test.serial('gives each part a database and a role of its own', async (t) => {
  const role = await server.createRole('shop')
  t.deepEqual(await server.createRole('shop'), role)
  await server.createDatabase('shop', { owner: 'shop' })
  const url = server.urlFor('shop', 'shop')
  t.is(await valueOf(url, 'select current_user'), 'shop')
  await withClient(url, (client) => client.query('create table mine (id int)'))
  // Again, as after a restart of the program on the same data: nothing is lost.
  await server.createDatabase('shop', { owner: 'shop' })
  t.is(await valueOf(url, 'select count(*)::int from mine'), 0)
})

for (const mode of ['fast', 'immediate', 'kill9'] as const) {
  test.serial(`a restart (${mode}) keeps every committed row`, async (t) => {
    const url = await server.createDatabase(`kept_${mode}`)
    const before = server.pid
    await withClient(url, async (client) => {
      await client.query('create table kept (id int primary key)')
      await client.query('insert into kept select generate_series(1, 20000)')
    })
    await server.restart(mode)
    t.not(server.pid, before)
    t.false(isRunning(before))
    t.is(await valueOf(url, 'select count(*)::int from kept'), 20_000)
  })
}

test.serial('kill9 ends connections that were open', async (t) => {
  const client = new pg.Client({ connectionString: server.url })
  client.on('error', () => {})
  await client.connect()
  const ended = new Promise((resolve) => {
    client.once('end', resolve)
  })
  await server.restart('kill9')
  await ended
  t.is(await valueOf(server.url, 'select 1'), 1)
})

test.serial('paused it refuses nothing and answers nothing, resumed it goes on', async (t) => {
  await withClient(server.url, async (client) => {
    server.pause()
    for (const pid of [server.pid, ...descendantsOf(server.pid)]) t.true(isRunning(pid))
    let answered = false
    const answer = client.query('select 1').finally(() => {
      answered = true
    })
    // The connection is made by the kernel, the greeting has to come from the server.
    const late = new pg.Client({ connectionString: server.url, connectionTimeoutMillis: 200 })
    await t.throwsAsync(late.connect(), { message: /timeout/ })
    t.false(answered)
    server.resume()
    await answer
    t.true(answered)
  })
})

test.serial('restarts from many callers run one after the other', async (t) => {
  await Promise.all([server.restart('kill9'), server.restart('fast'), server.restart('kill9')])
  t.is(await valueOf(server.url, 'select 1'), 1)
})

test.serial('a server of one’s own is used, and never restarted', async (t) => {
  const own = await connectPostgresServer(server.url)
  t.true(own.hasStatementStatistics)
  const url = await own.createDatabase('strangler_twice')
  await withClient(url, (client) => client.query('create table old (id int)'))
  await own.createDatabase('strangler_twice')
  t.is(await valueOf(url, `select to_regclass('old')`), null)
  await server.createDatabase('theirs')
  await t.throwsAsync(own.createDatabase('theirs'), { message: /not ours/ })
  await t.throwsAsync(own.restart('kill9'), { message: /server of your own/ })
  t.throws(() => own.pause(), { message: /server of your own/ })
  await own.stop()
  t.is(await valueOf(server.url, 'select 1'), 1)
})

test('a folder of one’s own is used again, with its passwords', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'estate-test-'))
  try {
    if (process.getuid?.() === 0) {
      await t.throwsAsync(startEmbeddedPostgres({ dataDirectory: join(folder, 'kept') }), {
        message: /"nobody", who may not enter .*chmod/,
      })
    }
    chmodSync(folder, 0o711)
    const first = await startEmbeddedPostgres({ dataDirectory: join(folder, 'kept') })
    await first.createRole('shop')
    await first.createDatabase('shop', { owner: 'shop' })
    const url = new URL(first.urlFor('shop', 'shop'))
    await withClient(url.href, (client) => client.query('create table kept as select 1 as id'))
    await Promise.all([first.stop(), first.stop()])
    await t.throwsAsync(first.restart('fast'), { message: /after stop/ })

    const second = await startEmbeddedPostgres({ dataDirectory: join(folder, 'kept') })
    t.is(await valueOf(second.urlFor('shop', 'shop'), 'select id from kept'), 1)
    await second.stop()
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})

test('a parent killed by SIGKILL leaves no server, and the next start removes its folder', async (t) => {
  const code = `
    import { startEmbeddedPostgres } from ${JSON.stringify(import.meta.resolve('./embedded-postgres.ts'))}
    import { withClient } from ${JSON.stringify(import.meta.resolve('./postgres-server.ts'))}
    const server = await startEmbeddedPostgres()
    const directory = await withClient(server.url, async (client) =>
      (await client.query('show data_directory')).rows[0].data_directory)
    console.log(server.pid + ' ' + directory)`
  const parent = await startMortalParent(t, code)
  const [pid, directory = ''] = parent.line.split(' ')
  const all = [Number(pid), ...descendantsOf(Number(pid))]
  t.true(isRunning(Number(pid)))
  await parent.killNow()
  await goneFromTable(all)
  // It shut down, it was not cut off.
  t.false(existsSync(join(directory, 'postmaster.pid')))

  const next = await startEmbeddedPostgres()
  t.false(existsSync(directory))
  await next.stop()
})

test('a setting that PostgreSQL refuses stops the start with its words', async (t) => {
  const error = await t.throwsAsync(startEmbeddedPostgres({ settings: { wal_level: 'loud' } }))
  t.regex(error?.message ?? '', /invalid value for parameter "wal_level"/)
})
