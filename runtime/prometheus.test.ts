import { randomUUID } from 'node:crypto'

import test from 'ava'

import { PrometheusMetrics } from './prometheus.ts'

const outcomes = ['taken', 'refused'] as const

async function series(metrics: PrometheusMetrics): Promise<string[]> {
  return (await metrics.text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'))
}

test('a value that is in no list is counted as other, however many of them come', async (t) => {
  const metrics = new PrometheusMetrics()
  const sent = metrics.counter({
    name: 'sent_total',
    help: 'Sent.',
    labels: { outcome: outcomes, queue: ['a'] },
  })
  const took = metrics.timing(
    { name: 'took_seconds', help: 'Took.', labels: { path: ['x'] } },
    [0.1, 1],
  )
  metrics.gauge({ name: 'there', help: 'There.', labels: { state: ['open'] } }, () =>
    Array.from({ length: 50 }, () => ({ labels: { state: randomUUID() }, value: 1 })),
  )
  t.deepEqual(await series(metrics), [
    'sent_total{outcome="taken",queue="a"} 0',
    'sent_total{outcome="refused",queue="a"} 0',
    'there{state="other"} 50',
  ])
  for (let n = 0; n < 5000; n += 1) {
    sent.add({ outcome: randomUUID(), queue: `/orders/${randomUUID()}?by=ann@example.org` })
    sent.add({ outcome: 'taken', queue: 'a' })
    took.observe({ path: randomUUID() }, 0.5)
  }
  t.deepEqual(await series(metrics), [
    'sent_total{outcome="taken",queue="a"} 5000',
    'sent_total{outcome="refused",queue="a"} 0',
    'sent_total{outcome="other",queue="other"} 5000',
    'took_seconds_bucket{le="0.1",path="other"} 0',
    'took_seconds_bucket{le="1",path="other"} 5000',
    'took_seconds_bucket{le="+Inf",path="other"} 5000',
    'took_seconds_sum{path="other"} 2500',
    'took_seconds_count{path="other"} 5000',
    'there{state="other"} 50',
  ])
})

test('a label that was not declared never leaves', async (t) => {
  const metrics = new PrometheusMetrics()
  const sent = metrics.counter({ name: 'sent_total', help: 'Sent.', labels: { outcome: outcomes } })
  const labels = { outcome: 'taken', order: randomUUID() }
  sent.add(labels)
  t.deepEqual(await series(metrics), [
    'sent_total{outcome="taken"} 1',
    'sent_total{outcome="refused"} 0',
  ])
})

test('what is read at the scrape is what is so then, and what is gone is gone', async (t) => {
  const metrics = new PrometheusMetrics()
  let passed = 3
  let waiting: string[] = ['a', 'b']
  metrics.counted({ name: 'passed_total', help: 'Passed.', labels: {} }, () => [
    { labels: {}, value: passed },
  ])
  metrics.gauge({ name: 'waiting', help: 'Waiting.', labels: { queue: ['a', 'b'] } }, () =>
    waiting.map((queue) => ({ labels: { queue }, value: 2 })),
  )
  t.deepEqual(await series(metrics), [
    'passed_total 3',
    'waiting{queue="a"} 2',
    'waiting{queue="b"} 2',
  ])
  passed = 4
  waiting = ['b']
  const [once, again] = await Promise.all([series(metrics), series(metrics)])
  t.deepEqual(once, ['passed_total 4', 'waiting{queue="b"} 2'])
  t.deepEqual(again, once)
})
