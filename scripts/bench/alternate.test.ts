import test from 'ava'

import { alternate } from './alternate.ts'

const rate = (perSecond: number) => ({ perSecond, p50: 1000 / perSecond, p99: 0, count: 1 })

test('a machine that grows slower all the time does not speak against ours', async (t) => {
  let round = 0
  const slower = (): number => 10_000 - 10 * round++
  const { ratio, p50Ratio, noise, ours } = await alternate(
    { blocks: 9, rounds: 20 },
    async (_block, measure) =>
      measure({
        peer: () => Promise.resolve(rate(slower())),
        ours: () => Promise.resolve(rate(0.95 * slower())),
      }),
  )
  t.deepEqual(ratio, { median: 0.95, low: 0.95, high: 0.95 })
  t.deepEqual(p50Ratio, { median: 0.95, low: 0.95, high: 0.95 })
  t.deepEqual(noise, { median: 1, low: 1, high: 1 })
  t.is(ours.count, 180)
})

test('what two of the same differ by is in the interval, however many rounds a block has', async (t) => {
  const luck = [0.96, 1.04, 0.98, 1.02, 1, 0.99, 1.01, 0.97, 1.03]
  const { ratio } = await alternate({ blocks: 9, rounds: 100 }, async (block, measure) =>
    measure({
      peer: () => Promise.resolve(rate(10_000)),
      ours: () => Promise.resolve(rate(10_000 * luck[block]!)),
    }),
  )
  t.deepEqual(ratio, { median: 1, low: 0.97, high: 1.03 })
})
