import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'

import test from 'ava'

import { binaryStl } from './mes-under-test.ts'
import { priceOf } from './price-of.ts'
import { readModel } from './read-model.ts'

function lying(claimed: number, triangles: number): Buffer {
  const model = binaryStl(triangles)
  model.writeUInt32LE(claimed, 80)
  return model
}

const ascii = Buffer.from(`solid binary looking at first\n${'facet normal 0 0 1\n'.repeat(40)}`)
const cases: [what: string, model: Buffer, triangles: number][] = [
  ['binary STL', binaryStl(7), 7],
  ['a count in the file that the size denies', lying(500_000_000, 7), 8],
  ['ASCII STL', ascii, 40],
  ['binary STL that begins like ASCII', Buffer.from(binaryStl(3)).fill('solid ', 0, 80), 3],
  ['ASCII in name only', Buffer.from(`solid${' '.repeat(95)}`), 2],
  ['anything else, from its size', Buffer.alloc(1049, 'PK'), 20],
  ['next to nothing', Buffer.from('x'), 0],
]

for (const [what, model, triangles] of cases) {
  test(`counts ${what}, however it is cut into chunks`, async (t) => {
    const sha256 = createHash('sha256').update(model).digest('hex')
    for (const size of [1, 5, 13, model.length]) {
      const chunks = Array.from({ length: Math.ceil(model.length / size) }, (_, n) =>
        model.subarray(n * size, (n + 1) * size),
      )
      const read = await readModel(Readable.from(chunks), model.length)
      t.deepEqual(read, { triangles, sha256 }, `chunks of ${size}`)
    }
  })
}

test('a price has two decimals, rounded once', (t) => {
  t.is(priceOf(0, { quantity: 1, customer_tier: 'guest' }), '2.50')
  t.is(priceOf(1, { quantity: 1, customer_tier: null }), '2.51')
  t.is(priceOf(500, { quantity: 10, customer_tier: 'gold' }), '23.40')
  t.is(priceOf(3, { quantity: 1, customer_tier: 'silver' }), '2.38')
  t.is(priceOf(2_000_000, { quantity: 1_000_000, customer_tier: null }), '402500000.00')
})
