import { fork } from 'node:child_process'
import { join } from 'node:path'

import { Queue } from 'bullmq'

import { inheritedEnvironment } from '../../runtime/config.ts'
import { type Rate, rateOf } from './rate.ts'
import { backendOf, connectionOf } from './raw-bullmq-connection.ts'

export interface RawBullmqRun {
  readonly url: string
  readonly prefix: string
  readonly jobs: number
  /** Callers that add one job each and wait for the answer, over and over. */
  readonly clients: number
  readonly concurrency: number
  readonly bodyBytes: number
}

/**
 * The peer: BullMQ as it is, add and process of a job that carries the whole message, with a worker that does nothing, in a
 * process of its own. No ledger, no sink, no proof.
 */
export async function rawBullmq(run: RawBullmqRun): Promise<Rate> {
  const worker = fork(
    join(import.meta.dirname, 'raw-bullmq-worker.ts'),
    [run.url, run.prefix, String(run.concurrency), String(run.jobs)],
    { env: inheritedEnvironment(), stdio: ['ignore', 'inherit', 'inherit', 'ipc'] },
  )
  const said = (type: string): Promise<Record<string, unknown>> =>
    new Promise((resolve, reject) => {
      worker.on('message', (message: Record<string, unknown>) => {
        if (message['type'] === type) resolve(message)
      })
      worker.once('exit', (code) => reject(new Error(`the raw worker ended with ${code}`)))
    })
  const done = said('done')
  await said('ready')
  const queue = new Queue('raw', connectionOf(run.url, run.prefix), ...backendOf(run.url))
  try {
    const body = 'x'.repeat(run.bodyBytes)
    const began = performance.now()
    let left = run.jobs
    await Promise.all(
      Array.from({ length: run.clients }, async () => {
        while (left > 0) {
          left -= 1
          await queue.add(
            'order',
            { body, at: performance.timeOrigin + performance.now() },
            { removeOnComplete: true },
          )
        }
      }),
    )
    const { latencies } = await done
    return rateOf(
      run.jobs,
      performance.now() - began,
      Array.isArray(latencies) ? latencies.map(Number) : [],
    )
  } finally {
    await queue.close()
    worker.disconnect()
  }
}
