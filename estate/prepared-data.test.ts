import { randomUUID } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'

import test, { type ExecutionContext } from 'ava'

import { type EmbeddedPostgres, startEmbeddedPostgres } from './embedded-postgres.ts'
import { withClient } from './postgres-server.ts'
import { type PreparedData, preparedFrom } from './prepared-data.ts'

const shelf = join(import.meta.dirname, '../node_modules/.cache/strangler-postgres')

/** Starts servers that begin with one database of one row, and counts how often that was made. */
function family(t: ExecutionContext): {
  data: PreparedData
  start: () => Promise<EmbeddedPostgres>
  made: () => number
} {
  const data = preparedFrom('test', [], randomUUID())
  let made = 0
  t.teardown(() => rm(join(shelf, `test-${data.key}`), { recursive: true, force: true }))
  return {
    data,
    made: () => made,
    start: async () => {
      const server = await startEmbeddedPostgres({
        filled: {
          data,
          async make(empty) {
            made += 1
            await empty.createRole('shop')
            await empty.createDatabase('kept', { owner: 'shop' })
            await withClient(empty.urlFor('kept', 'shop'), (client) =>
              client.query('CREATE TABLE kept AS SELECT 1 AS id'),
            )
          },
        },
      })
      t.teardown(() => server.stop())
      return server
    },
  }
}

/** Through the role that was made with it: its password is right as well. */
async function idsOn(server: EmbeddedPostgres): Promise<number[]> {
  return withClient(server.urlFor('kept', 'shop'), async (client) => {
    const { rows } = await client.query<{ id: number }>('SELECT id FROM kept ORDER BY id')
    return rows.map(({ id }) => id)
  })
}

test('a server begins with a copy of what was made once, and keeps what comes to itself', async (t) => {
  const { start, made } = family(t)
  const first = await start()
  await withClient(first.urlFor('kept', 'shop'), (client) =>
    client.query('INSERT INTO kept VALUES (2)'),
  )
  const second = await start()
  t.is(made(), 1)
  t.deepEqual(await idsOn(second), [1])
  t.deepEqual(await idsOn(first), [1, 2])
  await first.restart('kill9')
  t.deepEqual(await idsOn(first), [1, 2])
})

test('servers that make it at the same moment do not disturb each other, nor the one that comes after', async (t) => {
  const { start, made } = family(t)
  const all = await Promise.all([start(), start(), start()])
  t.is(made(), all.length)
  for (const server of all) t.deepEqual(await idsOn(server), [1])
  t.deepEqual(await idsOn(await start()), [1])
  t.is(made(), all.length)
})

test('data that lost a part of itself is made again, and kept', async (t) => {
  const { data, start, made } = family(t)
  await start()
  await rm(join(shelf, `test-${data.key}`, 'superuser-password'))
  t.deepEqual(await idsOn(await start()), [1])
  t.is(made(), 2)
  t.deepEqual(await idsOn(await start()), [1])
  t.is(made(), 2)
})

function key(...paths: string[]): string {
  return preparedFrom('test', paths).key
}

test('the name tells what it was made from', (t) => {
  t.is(key('migrations'), key('migrations'))
  t.not(key('migrations'), key('migrations/shop'))
  t.not(key('migrations'), key('migrations', 'package.json'))
  t.throws(() => key('migrations/nothing.sql'), { code: 'ENOENT' })
})
