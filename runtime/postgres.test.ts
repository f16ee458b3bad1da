import test from 'ava'

import { startEmbeddedPostgres } from '../estate/embedded-postgres.ts'
import { startTcpForwarder } from '../test/tcp-forwarder.ts'
import { waitUntil } from '../test/wait-until.ts'
import { createLog } from './log.ts'
import { createPool, holdingLock, inTransaction } from './postgres.ts'

const lock = [7, 7] as const

test('one session at a time holds a lock, and gives it back with its work', async (t) => {
  const postgres = await startEmbeddedPostgres()
  const pool = createPool(postgres.url, { name: 'test', log: createLog('test') })
  try {
    const within = await holdingLock(pool, lock, () =>
      holdingLock(pool, lock, () => Promise.resolve('both')),
    )
    t.is(within, undefined)
    await t.throwsAsync(
      holdingLock(pool, lock, () => Promise.reject(new Error('the work failed'))),
      { message: 'the work failed' },
    )
    // A session that failed is ended, and its server gives the lock back when it has read that.
    const again = await waitUntil('the lock of the ended session', () =>
      holdingLock(pool, lock, () => Promise.resolve('again')),
    )
    t.is(again, 'again')
  } finally {
    await pool.end()
    await postgres.stop()
  }
})

test('a server that falls silent costs one statement each, and not the pool', async (t) => {
  const postgres = await startEmbeddedPostgres()
  const address = await startTcpForwarder(postgres.port)
  const url = new URL(postgres.url)
  url.port = String(address.port)
  const pool = createPool(url.href, {
    name: 'test',
    max: 1,
    lostAfterMs: 300,
    log: createLog('test'),
  })
  const works = {
    lock: () => holdingLock(pool, lock, () => Promise.resolve('done')),
    transaction: () => inTransaction(pool, () => Promise.resolve('done')),
  }
  try {
    for (const [name, work] of Object.entries(works)) {
      t.is(await work(), 'done', name)
      address.fallSilent()
      await t.throwsAsync(work(), { message: 'Query read timeout' }, name)
      // What a lost session held, its server gives back when it learns of it: not this one.
      await postgres.restart('immediate')
      t.is(await work(), 'done', `${name}, by another connection`)
    }
  } finally {
    await pool.end()
    await address.close()
    await postgres.stop()
  }
})
