import { createHash, timingSafeEqual } from 'node:crypto'

import { GroupCommit } from '../runtime/group-commit.ts'
import { inOrder, type Service, service } from '../runtime/lifecycle.ts'
import type { Log } from '../runtime/log.ts'
import { pollLoop } from '../runtime/poll-loop.ts'
import type { Pool } from '../runtime/postgres.ts'
import { Refusal } from './refusal.ts'

export interface Partner {
  /** As the MES calls it. */
  readonly id: string
  readonly mode: 'compat' | 'strict'
  readonly requestsPerMinute: number
  readonly uploadsAtOnce: number
  /** Of the key that it came with. */
  readonly keySha256: Buffer
}

interface KeyRow extends Partner {
  readonly keyId: string
}

const noteUsesEveryMs = 5000
const rememberMs = 1000

/** Who calls. A key is looked up by its hash, many callers in one statement. */
export class Partners implements Service {
  readonly #pool: Pool
  readonly #lookups: GroupCommit<Buffer, KeyRow | undefined>
  readonly #remembered = new Map<string, { readonly row: KeyRow; readonly until: number }>()
  readonly #used = new Set<string>()
  readonly #life: Service

  constructor(pool: Pool, log: Log) {
    this.#pool = pool
    this.#lookups = new GroupCommit((hashes) => this.#find(hashes))
    const noting = pollLoop({
      name: 'key uses',
      log,
      idleMs: () => noteUsesEveryMs,
      work: async () => {
        await this.#noteUses()
        return false
      },
    })
    const last = service({ start: () => Promise.resolve(), stop: () => this.#noteUses() })
    this.#life = inOrder([last, noting])
  }

  start(): Promise<void> {
    return this.#life.start()
  }

  stop(): Promise<void> {
    return this.#life.stop()
  }

  /**
   * Whose key it is, asked of the database: a revoked one is refused at once.
   * @throws Refusal `unauthorized`
   */
  async authenticate(key: string | undefined): Promise<Partner> {
    const hash = hashOf(key)
    return this.#known(hash, await this.#lookups.push(hash))
  }

  /**
   * Whose key it was a moment ago. Only for what asks the database once more before it changes anything, as AcceptOrders does.
   * @throws Refusal `unauthorized`
   */
  async recognise(key: string | undefined): Promise<Partner> {
    const hash = hashOf(key)
    const name = hash.toString('base64')
    const remembered = this.#remembered.get(name)
    if (remembered !== undefined && performance.now() < remembered.until)
      return this.#known(hash, remembered.row)
    this.#remembered.delete(name)
    const row = await this.#lookups.push(hash)
    if (row !== undefined)
      this.#remembered.set(name, { row, until: performance.now() + rememberMs })
    return this.#known(hash, row)
  }

  /**
   * Whose key has this hash; nobody has used it by that.
   * @throws Refusal `unauthorized`
   */
  async ofKey(sha256: Buffer): Promise<Partner> {
    return matching(sha256, await this.#lookups.push(sha256))
  }

  #known(hash: Buffer, row: KeyRow | undefined): Partner {
    const found = matching(hash, row)
    this.#used.add(found.keyId)
    return found
  }

  async #find(hashes: readonly Buffer[]): Promise<(KeyRow | undefined)[]> {
    const { rows } = await this.#pool.query<KeyRow>({
      name: 'find-keys',
      text: `SELECT k.id AS "keyId", k.secret_sha256 AS "keySha256", p.id, p.mode, p.requests_per_minute AS "requestsPerMinute",
               p.uploads_at_once AS "uploadsAtOnce"
             FROM api_key k JOIN partner p ON p.id = k.partner
             WHERE k.secret_sha256 = ANY($1::bytea[]) AND k.revoked_at IS NULL`,
      values: [hashes],
    })
    const byHash = new Map(rows.map((row) => [row.keySha256.toString('base64'), row]))
    return hashes.map((hash) => byHash.get(hash.toString('base64')))
  }

  async #noteUses(): Promise<void> {
    // Also where there is none: by its connection it is seen that an intake runs.
    const used = [...this.#used]
    this.#used.clear()
    await this.#pool.query(
      'UPDATE api_key SET last_used_at = clock_timestamp() WHERE id = ANY($1::text[])',
      [used],
    )
  }
}

function matching(hash: Buffer, row: KeyRow | undefined): KeyRow {
  if (row === undefined || !timingSafeEqual(row.keySha256, hash)) throw unauthorized()
  return row
}

function hashOf(key: string | undefined): Buffer {
  return createHash('sha256')
    .update(key ?? '')
    .digest()
}

export function unauthorized(): Refusal {
  return new Refusal('unauthorized', 'unknown API key')
}
