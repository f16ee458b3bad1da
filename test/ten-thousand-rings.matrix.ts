import test from 'ava'
import { createPostgresBackend, Queue } from 'bullmq'

import { Doorbell, listenToDoorbell } from '../delivery/doorbell.ts'
import { prepareDoorbell } from '../delivery/prepare-doorbell.ts'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../estate/embedded-postgres.ts'
import { createLog } from '../runtime/log.ts'
import { waitUntil } from './wait-until.ts'

/**
 * BullMQ's PostgreSQL backend deadlocks with itself when it prunes finished jobs by age or count: jobs that ran well ended
 * `failed` (up to 34 of 20 000, already at four at a time). The doorbell therefore removes them at once; this run would see
 * that setting go.
 */
const queue = 'orders'
const jobs = 10_000
// The doorbell names so many orders in one job; here they are all the same, so that an id stands for a job.
const ordersPerJob = 200
const jobsPerRing = 50
const ringers = 4
let server: EmbeddedPostgres

test.before(async () => {
  server = await startEmbeddedPostgres()
})
test.after.always(() => server?.stop())

test('10 000 jobs through the doorbell in PostgreSQL: each heard, none failed, none left', async (t) => {
  t.timeout(180_000)
  const url = await server.createDatabase('doorbell')
  await prepareDoorbell(url)
  const log = createLog('test')
  const doorbell = new Doorbell({ url, queue, log })
  const heard = new Map<string, number>()
  const listener = listenToDoorbell({ url, queue, log }, async (rings) => {
    for (const { orderId } of rings) heard.set(orderId, (heard.get(orderId) ?? 0) + 1)
  })
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the backend's generics do not fit the classes' own
  const backend = createPostgresBackend as never
  const asked = new Queue(
    queue,
    { connection: { connectionString: url }, skipMetasUpdate: true },
    backend,
  )
  try {
    await waitUntil('the listener', () => listener.healthy())
    let next = 0
    const ringer = async (): Promise<void> => {
      for (let first = next; first < jobs; first = next) {
        next += jobsPerRing
        await doorbell.ring(
          Array.from({ length: jobsPerRing * ordersPerJob }, (_, n) => ({
            orderId: `n${first + Math.floor(n / ordersPerJob)}`,
            gen: 0,
          })),
        )
      }
    }
    await Promise.all(Array.from({ length: ringers }, ringer))
    await waitUntil('every ring', async () => heard.size === jobs, 150_000)
    await waitUntil('nothing under way', async () => {
      const counts = await asked.getJobCounts('waiting', 'active', 'delayed', 'prioritized')
      return Object.values(counts).every((count) => count === 0)
    })
    t.deepEqual(await asked.getJobCounts('failed', 'completed'), { failed: 0, completed: 0 })
    t.deepEqual(
      [...heard].filter(([, times]) => times !== ordersPerJob),
      [],
      'no job ran twice',
    )
  } finally {
    await listener.close()
    await doorbell.close()
    await asked.close()
  }
})
