import { readFileSync } from 'node:fs'

import test from 'ava'

import { startEmbeddedPostgres } from '../estate/embedded-postgres.ts'
import { createLog } from '../runtime/log.ts'
import { createPool } from '../runtime/postgres.ts'
import type { Client, Pool } from '../runtime/postgres.ts'
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
test('a server that is new to us certifies no death before the kill period is over', async (t) => {
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
})
