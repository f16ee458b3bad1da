import { execFile } from 'node:child_process'
import { statSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

import test from 'ava'
import pg from 'pg'

import type { Estate } from '../estate/estate.ts'
import { type PostgresServer, withClient } from '../estate/postgres-server.ts'
import { type Customers, customersOf, expectHonest } from './customers.ts'
import { installGuard, moveShare, says, startDirectWay } from './direct-way-fixture.ts'
import { serialWith } from './optional-server.ts'
import { waitUntil } from './wait-until.ts'

/**
 * One server holds everything: the Shop, the ledger, the queue, the doorbell and the MES. What a customer was told is true
 * whatever happens to it, and every order that was committed reaches the MES once.
 */
const run = promisify(execFile)
let server: PostgresServer
let estate: Estate

test.before(async () => {
  estate = await startDirectWay({ postgresSettings: { max_connections: '90' } })
  server = estate.postgres
  await installGuard(estate)
  await moveShare(estate, '100%')
})
test.after.always(async () => {
  await estate?.stop()
})

async function moreOrders(customers: Customers, count: number): Promise<void> {
  const enough = customers.acknowledged.length + count
  await waitUntil(`${count} more orders`, async () => customers.acknowledged.length >= enough)
}

for (const mode of ['immediate', 'kill9'] as const) {
  test.serial(`${mode} restart of the server, twice, while orders flow`, async (t) => {
    const customers = await customersOf(estate)
    await moreOrders(customers, 50)
    await server.restart(mode)
    await moreOrders(customers, 50)
    await server.restart(mode)
    await moreOrders(customers, 50)
    t.true(customers.unanswered.length > 0, 'somebody met the outage')
    await expectHonest(t, estate, customers)
  })
}

test.serial(
  'no connection left: whoever asks is refused, nothing is accepted falsely',
  async (t) => {
    await server.createRole('stranger')
    const url = server.urlFor('postgres', 'stranger')
    const hogs: pg.Client[] = []
    const customers = await customersOf(estate)
    await moreOrders(customers, 20)
    const refused = says(estate, 'relay', outOfConnections)
    const died = says(estate, 'courier', 'courier_died')
    try {
      // Whoever was cut comes back at once, so they are cut again until the stranger has every slot.
      await waitUntil('the customers refused', async () => {
        await takeAllConnections(url, hogs)
        await withClient(server.url, (client) => client.query(cutAllButTheStranger))
        await takeAllConnections(url, hogs)
        return [...customers.refusals].some((each) => outOfConnections.test(each))
      })
      await refused
      await died
    } finally {
      await Promise.all(hogs.map((hog) => hog.end()))
    }
    await moreOrders(customers, 20)
    await expectHonest(t, estate, customers)
  },
)

const outOfConnections = /remaining connection slots|too many clients/
const cutAllButTheStranger = `
  SELECT pg_terminate_backend(pid) FROM pg_stat_activity
  WHERE backend_type = 'client backend' AND usename NOT IN ('postgres', 'stranger')`

async function takeAllConnections(url: string, into: pg.Client[]): Promise<void> {
  for (;;) {
    const client = new pg.Client({ connectionString: url })
    client.on('error', () => undefined)
    try {
      await client.connect()
      into.push(client)
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === '53300') return
      throw error
    }
  }
}

serialWith('right to mount')(
  "no room on the ledger's disk: nothing is accepted there, and everything once there is room",
  async (t) => {
    const disk = await tinyDisk(await userOfTheServer())
    const customers = await customersOf(estate)
    const admin = await connected(estate.databases.ledger)
    try {
      await admin.query(`CREATE TABLESPACE tiny LOCATION '${disk.place}'`)
      await admin.query('ALTER TABLE order_ledger SET TABLESPACE tiny')
      const full = says(estate, 'relay', /No space left on device/)
      const filler = join(disk.mount, 'filler')
      await writeFile(filler, Buffer.alloc(disk.bytes)).catch((error: unknown) => {
        t.regex(String(error), /ENOSPC/)
      })
      await full
      await moreOrders(customers, 20)
      await rm(filler)
      await expectHonest(t, estate, customers)
      await admin.query('ALTER TABLE order_ledger SET TABLESPACE pg_default')
      await admin.query('DROP TABLESPACE tiny')
    } finally {
      await customers.stop()
      await admin.end()
      await disk.remove()
    }
  },
)

async function userOfTheServer(): Promise<number> {
  return withClient(server.url, async (client) => {
    const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
    return statSync(`/proc/${rows[0]!.pid}`).uid
  })
}

/** A file system of its own, the server's to write. */
async function tinyDisk(
  uid: number,
): Promise<{ mount: string; place: string; bytes: number; remove(): Promise<void> }> {
  const bytes = 32 * 1024 * 1024
  const mount = await mkdtemp(join(tmpdir(), 'strangler-disk-'))
  const remove = async (): Promise<void> => {
    // Lazily: the server may still have a file of it open.
    await run('umount', ['-l', mount])
    await rm(mount, { recursive: true, force: true })
  }
  await run('mount', ['-t', 'tmpfs', '-o', `size=${bytes},mode=0711`, 'tmpfs', mount])
  try {
    const place = join(mount, 'tablespace')
    await run('install', ['-d', '-o', String(uid), '-m', '0700', place])
    return { mount, place, bytes, remove }
  } catch (error) {
    await remove()
    throw error
  }
}

async function connected(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url })
  // Some of these are cut on purpose; the next statement fails, and that is where it is heard.
  client.on('error', () => undefined)
  await client.connect()
  return client
}
