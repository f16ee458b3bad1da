import { randomBytes, randomUUID } from 'node:crypto'

import test from 'ava'

import { bucketOf } from '../contracts/path-share.ts'
import { startEstateDatabases } from '../test/estate-databases.ts'

const estate = await startEstateDatabases()
test.after.always(() => estate.stop())

test('the trigger and the code put 10 000 random keys into the same buckets', async (t) => {
  const keys = Array.from({ length: 10_000 }, (_, index) => {
    if (index % 3 === 0) return randomUUID()
    if (index % 3 === 1) return `Bestellung № ${randomBytes(8).toString('hex')} ✂ ${index}:`
    return `${index}`
  })
  for (const seed of [0, 1, 2_147_483_647]) {
    const { rows } = await estate.shop.query<{ bucket: number }>(
      'SELECT strangler.bucket(key, $2) AS bucket FROM unnest($1::text[]) WITH ORDINALITY AS k(key, n) ORDER BY n',
      [keys, seed],
    )
    t.deepEqual(
      rows.map((row) => row.bucket),
      keys.map((key) => bucketOf(key, seed)),
    )
  }
})
