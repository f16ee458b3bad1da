import { createHash, randomUUID } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import type { Estate } from '../estate/estate.ts'
import { withClient } from '../estate/postgres-server.ts'
import { torusStl } from '../estate/sample-models.ts'

/** Puts one model, small unless told otherwise, into the store and tells how the Shop would name it. */
export async function storeModel(
  estate: Estate,
  triangles = 12,
): Promise<{ key: string; sha256: string; bytes: number }> {
  const stl = torusStl(triangles)
  const sha256 = createHash('sha256').update(stl).digest('hex')
  const key = `models/${sha256.slice(0, 2)}/${sha256}`
  await mkdir(join(estate.modelDirectory, 'models', sha256.slice(0, 2)), { recursive: true })
  await writeFile(join(estate.modelDirectory, key), stl)
  return { key, sha256, bytes: stl.length }
}

/**
 * Submits orders as the Shop does, each in a transaction of its own by the Shop's role, without the HTTP in front: for tests
 * that need thousands. Returns the ids of those whose submit was committed.
 */
export async function submitOrders(
  estate: Estate,
  count: number,
  concurrency = 8,
): Promise<string[]> {
  const model = await storeModel(estate)
  const ids = Array.from({ length: count }, () => randomUUID())
  const shop = new URL(estate.databases.shop)
  const url = estate.postgres.urlFor(shop.pathname.slice(1), 'shop')
  const queue = [...ids]
  await Promise.all(
    Array.from({ length: Math.min(concurrency, count) }, () =>
      withClient(url, async (client) => {
        for (let id = queue.shift(); id !== undefined; id = queue.shift()) {
          await client.query(
            `INSERT INTO orders (id, status, material, quantity, model_key, model_sha256, model_bytes) VALUES ($1, 'FILE_UPLOADED', 'PLA', 1, $2, $3, $4)`,
            [id, model.key, model.sha256, model.bytes],
          )
          await client.query(
            `UPDATE orders SET status = 'SUBMITTED', updated_at = now() WHERE id = $1 AND status = 'FILE_UPLOADED'`,
            [id],
          )
        }
      }),
    ),
  )
  return ids
}
