import { Worker } from 'bullmq'

import { backendOf, connectionOf } from './raw-bullmq-connection.ts'

const [url, prefix, concurrency, jobs] = process.argv.slice(2)
if (url === undefined || prefix === undefined)
  throw new Error('expected url, prefix, concurrency and jobs')

const latencies: number[] = []
const worker = new Worker(
  'raw',
  (job: { data: { at: number } }) => {
    latencies.push(performance.timeOrigin + performance.now() - job.data.at)
    if (latencies.length === Number(jobs)) process.send?.({ type: 'done', latencies })
    return Promise.resolve()
  },
  { ...connectionOf(url, prefix), concurrency: Number(concurrency) },
  ...backendOf(url),
)
worker.on('error', (error) => process.stderr.write(`raw worker: ${error.message}\n`))
await worker.waitUntilReady()
process.send?.({ type: 'ready' })
process.on('disconnect', () => void worker.close().then(() => process.exit(0)))
