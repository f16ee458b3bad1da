import test from 'ava'

import { GroupCommit } from './group-commit.ts'

/** A flush that the test lets go by hand. */
function gatedFlush(): {
  batches: number[][]
  flush: (rows: number[]) => Promise<number[]>
  letGo: () => void
} {
  const batches: number[][] = []
  const waiting: (() => void)[] = []
  return {
    batches,
    flush: async (rows) => {
      batches.push(rows)
      await new Promise<void>((resolve) => {
        waiting.push(resolve)
      })
      return rows.map((row) => row * 10)
    },
    letGo: () => waiting.shift()?.(),
  }
}

const nextTurn = (): Promise<void> =>
  new Promise((resolve) => {
    setImmediate(() => setImmediate(resolve))
  })

test('rows of one turn share a batch, rows that come meanwhile share the next', async (t) => {
  const { batches, flush, letGo } = gatedFlush()
  const commit = new GroupCommit(flush, { maxInFlight: 1 })
  const first = [commit.push(1), commit.push(2)]
  await nextTurn()
  const second = [commit.push(3), commit.push(4), commit.push(5)]
  await nextTurn()
  t.deepEqual(batches, [[1, 2]])
  letGo()
  t.deepEqual(await Promise.all(first), [10, 20])
  await nextTurn()
  letGo()
  t.deepEqual(await Promise.all(second), [30, 40, 50])
  t.deepEqual(batches, [
    [1, 2],
    [3, 4, 5],
  ])
})

test('a batch is never larger than it may be, and no more are in flight than may be', async (t) => {
  const { batches, flush, letGo } = gatedFlush()
  const commit = new GroupCommit(flush, { maxInFlight: 2, maxRows: 3 })
  const all = Promise.all(Array.from({ length: 10 }, (_, n) => commit.push(n)))
  await nextTurn()
  t.is(batches.length, 2)
  for (let round = 0; round < 10; round += 1) {
    letGo()
    await nextTurn()
  }
  t.deepEqual(
    await all,
    Array.from({ length: 10 }, (_, n) => n * 10),
  )
  t.deepEqual(
    batches.map((batch) => batch.length),
    [3, 3, 3, 1],
  )
})

test('a failed commit rejects every row of its batch and none of the next', async (t) => {
  let calls = 0
  const commit = new GroupCommit<number, number>(async (rows) => {
    calls += 1
    if (calls === 1) throw new Error('disk full')
    return rows
  })
  const outcomes = await Promise.allSettled([commit.push(1), commit.push(2)])
  t.deepEqual(
    outcomes.map((outcome) => outcome.status),
    ['rejected', 'rejected'],
  )
  t.is(await commit.push(3), 3)
})

test('a flush that loses a row is an error, not a silence', async (t) => {
  const commit = new GroupCommit<number, number>(async () => [])
  await t.throwsAsync(commit.push(1), { message: /0 results for 1 rows/ })
})

test('drain waits for what is waiting and what is in flight', async (t) => {
  const { flush, letGo } = gatedFlush()
  const commit = new GroupCommit(flush)
  await commit.drain()
  let drained = false
  const pushed = commit.push(1)
  const draining = commit.drain().then(() => {
    drained = true
    return undefined
  })
  await nextTurn()
  t.false(drained)
  letGo()
  await pushed
  await draining
  t.true(drained)
})
