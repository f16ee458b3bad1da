import test from 'ava'

import { inOrder, type Service, service } from './lifecycle.ts'

function counted(): { steps: string[]; one: Service } {
  const steps: string[] = []
  return {
    steps,
    one: service({
      async start() {
        steps.push('start')
        await Promise.resolve()
      },
      async stop() {
        steps.push('stop')
        await Promise.resolve()
      },
    }),
  }
}

test('many callers of start and stop share the work', async (t) => {
  const { steps, one } = counted()
  await Promise.all(Array.from({ length: 50 }, () => one.start()))
  await Promise.all(Array.from({ length: 50 }, () => one.stop()))
  await one.stop()
  t.deepEqual(steps, ['start', 'stop'])
})

test('hammered by callers that start and stop in any order, it ends stopped, and starts and stops take turns', async (t) => {
  const { steps, one } = counted()
  await Promise.all(
    Array.from({ length: 200 }, async (_, n) => {
      await (n % 3 === 0 ? one.stop() : one.start())
    }),
  )
  await one.stop()
  t.deepEqual(
    steps,
    steps.map((_, n) => (n % 2 === 0 ? 'start' : 'stop')),
  )
  t.is(steps.at(-1), 'stop')
})

test('a stop that was never started does nothing', async (t) => {
  const { steps, one } = counted()
  await one.stop()
  t.deepEqual(steps, [])
})

test('a start that fails undoes what it began, in reverse, and says why', async (t) => {
  const steps: string[] = []
  const named = (name: string, fails = false): Service =>
    service({
      start() {
        steps.push(`start ${name}`)
        return fails ? Promise.reject(new Error(`${name} is away`)) : Promise.resolve()
      },
      stop() {
        steps.push(`stop ${name}`)
        return Promise.resolve()
      },
    })
  const all = inOrder([named('database'), named('queue', true), named('listener')])
  await t.throwsAsync(all.start(), { message: 'queue is away' })
  t.deepEqual(steps, ['start database', 'start queue', 'stop queue', 'stop database'])
})

test('a stop that fails still stops the others, and reports all', async (t) => {
  const stopped: string[] = []
  const stubborn = service({
    start: () => Promise.resolve(),
    stop: () => Promise.reject(new Error('stuck')),
  })
  const good = service({
    start: () => Promise.resolve(),
    stop() {
      stopped.push('good')
      return Promise.resolve()
    },
  })
  const all = inOrder([good, stubborn])
  await all.start()
  await t.throwsAsync(all.stop(), { instanceOf: AggregateError })
  t.deepEqual(stopped, ['good'])
})
