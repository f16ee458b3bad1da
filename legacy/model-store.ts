import { createHash, randomUUID } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

import { Refusal } from './refusal.ts'

export type StoredModel = { readonly key: string; readonly sha256: string; readonly bytes: number }

const keyForm = /^models\/[0-9a-f]{2}\/[0-9a-f]{64}$/u

/** A folder in the place of the S3-type store. A key names a model that is there in full, or none. */
export class ModelStore {
  readonly #folder: string
  readonly #owner: string

  constructor(folder: string, owner: string) {
    this.#folder = folder
    this.#owner = owner
  }

  /** What an upload left behind when its process was killed is nobody's. */
  async start(): Promise<void> {
    const incoming = join(this.#folder, 'incoming')
    await mkdir(incoming, { recursive: true })
    await mkdir(join(this.#folder, 'models'), { recursive: true })
    for (const name of await readdir(incoming)) {
      if (name.startsWith(`${this.#owner}-`)) await rm(join(incoming, name), { force: true })
    }
  }

  /** Rejects, and leaves nothing, when the source breaks off, is empty or longer than allowed. */
  async store(source: AsyncIterable<Buffer>, longest: number): Promise<StoredModel> {
    const temporary = join(this.#folder, 'incoming', `${this.#owner}-${randomUUID()}`)
    const hash = createHash('sha256')
    let bytes = 0
    try {
      await pipeline(
        source,
        async function* measured(chunks: AsyncIterable<Buffer>) {
          for await (const chunk of chunks) {
            bytes += chunk.length
            if (bytes > longest) throw modelTooLarge(longest)
            hash.update(chunk)
            yield chunk
          }
        },
        createWriteStream(temporary, { flags: 'wx', flush: true }),
      )
      if (bytes === 0) throw new Refusal(422, 'empty_model', 'the model file is empty')
      const sha256 = hash.digest('hex')
      const key = `models/${sha256.slice(0, 2)}/${sha256}`
      const path = join(this.#folder, key)
      await mkdir(dirname(path), { recursive: true })
      await rename(temporary, path)
      await syncFolder(dirname(path))
      return { key, sha256, bytes }
    } catch (error) {
      await rm(temporary, { force: true })
      throw error
    }
  }

  /** Undefined while the store holds nothing under the key. */
  async read(key: string): Promise<{ bytes: number; content: Readable } | undefined> {
    if (!keyForm.test(key)) return undefined
    const path = join(this.#folder, key)
    try {
      const { size } = await stat(path)
      return { bytes: size, content: createReadStream(path) }
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
      throw error
    }
  }
}

export function modelTooLarge(longest: number): Refusal {
  return new Refusal(413, 'model_too_large', `a model may have ${longest} bytes`, { longest })
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
