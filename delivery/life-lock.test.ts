import { readFileSync } from 'node:fs'

import test from 'ava'

import { startEmbeddedPostgres } from '../estate/embedded-postgres.ts'
import { createLog } from '../runtime/log.ts'
import { createPool } from '../runtime/postgres.ts'
import type { Client, Pool } from '../runtime/postgres.ts'
import { waitUntil } from '../test/wait-until.ts'
import { ledgerViolations } from './ledger-invariants.ts'
import { TakeOver, takeLifeLock } from './life-lock.ts'

const server = await startEmbeddedPostgres()
const url = await server.createDatabase('ledger')
const ledger: Pool = createPool(url, { name: 'test', log: createLog('test') })
test.before(async () => {
  for (const file of ['001_ledger', '002_statuses_direct', '003_phases', '005_traces']) {
    const sql = new URL(`../migrations/strangler/${file}.sql`, import.meta.url)
    await ledger.query(readFileSync(sql, 'utf8'))
  }
})
test.after.always(async () => {
  await ledger.end()
  await server.stop()
})

async function plantHeld(orderId: string, ownerId: number): Promise<void> {
  await ledger.query(
    `INSERT INTO order_ledger (order_id, origin, source_ref, path, path_epoch, path_reason, state, routing_key, body, body_sha256, submitted_at, owner_id)
     VALUES ($1, 'shop', $1, 'direct', 1, '{}', 'sending', '', '', '', now(), $2)`,
    [orderId, ownerId],
  )
}

async function withSession<Result>(work: (client: Client) => Promise<Result>): Promise<Result> {
  const client = await ledger.connect()
  try {
    return await work(client)
  } finally {
    client.release()
  }
}

async function deadOwner(): Promise<number> {
  const life = await takeLifeLock(url, () => undefined)
  await life.release()
  return life.ownerId
}

// The double send this prevents: after a failover no courier has its lock any more, and each of them may be about to send.
test.serial(
  'a server that is new to us certifies no death before the kill period is over',
  async (t) => {
    const takeOver = new TakeOver(1000)
    const look = (now: number): Promise<string[]> =>
      withSession(async (client) =>
        (await takeOver.fromDead(client, now)).map(({ orderId }) => orderId),
      )
    const living = await takeLifeLock(url, () => undefined)
    await plantHeld('of the living', living.ownerId)
    await plantHeld('first', await deadOwner())
    t.deepEqual(await look(5000), [])
    t.deepEqual(await look(5999), [])
    t.deepEqual(await look(6000), ['first'])
    t.deepEqual(await ledgerViolations(ledger), [])
    await living.release()

    await server.restart('immediate')
    await plantHeld('second', await deadOwner())
    t.deepEqual(await look(50_000), [], 'another server, whatever its age')
    t.deepEqual((await look(51_000)).toSorted(), ['of the living', 'second'])
    t.deepEqual(await ledgerViolations(ledger), [])
  },
)

const hex = (port: number): string => port.toString(16).toUpperCase().padStart(4, '0')

/** Seconds until the kernel asks whether the other end of a connection to `server` still lives; undefined = it does not ask now. */
function askedIn(clientPort: number): number | undefined {
  const ends = `:${hex(server.port)} 0100007F:${hex(clientPort)} `
  const line = readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .find((each) => each.includes(ends))
  // proc_net_tcp.rst: timer 2 is the keepalive's; it expires in so many hundredths of a second.
  const expires = / 02:([0-9A-F]{8}) /u.exec(line ?? '')?.[1]
  return expires === undefined ? undefined : Number.parseInt(expires, 16) / 100
}

test.serial(
  'the server asks after a silent courier only when that has ended itself, and not for hours',
  async (t) => {
    const lostAfterSeconds = 100
    const life = await takeLifeLock(url, () => undefined, lostAfterSeconds * 1000)
    const { rows } = await ledger.query<{ port: number }>(
      `SELECT a.client_port AS port FROM pg_stat_activity a JOIN pg_locks l USING (pid)
     WHERE l.locktype = 'advisory' AND l.objid = $1::bigint::oid`,
      [life.ownerId],
    )
    const seconds = await waitUntil('the timer of the keepalive', () =>
      Promise.resolve(askedIn(rows[0]!.port)),
    )
    t.true(seconds > 2 * lostAfterSeconds && seconds <= 3 * lostAfterSeconds, `${seconds} s`)
    await life.release()
  },
)
