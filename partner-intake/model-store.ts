import { createHash, randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { constants, type FileHandle, mkdir, open, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'

import { failpoint } from '../runtime/failpoint.ts'
import { Refusal, unavailable } from './refusal.ts'

/** `key` names the model in the store; it is there in full, and on disk, before anybody is told the key. */
export interface StoredModel {
  readonly key: string
  readonly sha256: string
  readonly bytes: number
}

/**
 * The folder that stands for the S3-type store, shared with the legacy systems: `models/<first two>/<sha256>`. The same file a
 * thousand times is stored once. Uploads under way lie in `incoming/`, under names that are ours.
 */
export class ModelStore {
  readonly #folder: string
  readonly #owner: string
  readonly #folders = new Map<string, Promise<FileHandle>>()

  /** @param owner begins the names of uploads under way, so that what a killed life left behind is known at the next start */
  constructor(folder: string, owner: string) {
    this.#folder = folder
    this.#owner = owner
  }

  async start(): Promise<void> {
    const incoming = join(this.#folder, 'incoming')
    await mkdir(incoming, { recursive: true })
    await mkdir(join(this.#folder, 'models'), { recursive: true })
    for (const name of await readdir(incoming))
      // Also of an owner whose name begins like ours the uploads are not ours.
      if (name.startsWith(`${this.#owner}-`) && name.length === this.#owner.length + 37)
        await rm(join(incoming, name), { force: true })
  }

  async stop(): Promise<void> {
    for (const folder of this.#folders.values()) await (await folder).close()
    this.#folders.clear()
  }

  /**
   * Streams an upload into the store while it is hashed.
   * @throws Refusal `empty_model`, `model_too_large`, `service_unavailable` when the store fails; whatever the source throws. Then
   *   nothing is left.
   */
  async store(source: AsyncIterable<Buffer>, longest: number): Promise<StoredModel> {
    const temporary = join(this.#folder, 'incoming', `${this.#owner}-${randomUUID()}`)
    try {
      const { sha256, bytes } = await write(temporary, source, longest)
      failpoint('intake.model-written')
      const first = sha256.slice(0, 2)
      const key = `models/${first}/${sha256}`
      const folder = await inStore(this.#openFolder(first))
      await inStore(rename(temporary, join(this.#folder, key)))
      await inStore(folder.sync())
      failpoint('intake.model-stored')
      return { key, sha256, bytes }
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => undefined)
      throw error
    }
  }

  /** Kept open, each of the 256: every upload syncs one of them. */
  #openFolder(first: string): Promise<FileHandle> {
    let folder = this.#folders.get(first)
    if (folder === undefined) {
      const path = join(this.#folder, 'models', first)
      folder = this.#makeFolder(path)
      this.#folders.set(first, folder)
      folder.catch(() => this.#folders.delete(first))
    }
    return folder
  }

  async #makeFolder(path: string): Promise<FileHandle> {
    const made = await mkdir(path, { recursive: true })
    if (made !== undefined) {
      const parent = await open(join(this.#folder, 'models'))
      try {
        await parent.sync()
      } finally {
        await parent.close()
      }
    }
    return open(path)
  }

  read(key: string): Readable {
    return createReadStream(join(this.#folder, key))
  }
}

/** Chunks are held until they are worth a write: most models are one. */
const heldBytes = 256 * 1024
/** The write itself waits for the disk, which saves a call; many writes would each wait. */
const wholeInOneWrite =
  constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_DSYNC

/** The whole of it is on disk when this returns. */
async function write(
  path: string,
  source: AsyncIterable<Buffer>,
  longest: number,
): Promise<{ readonly sha256: string; readonly bytes: number }> {
  const hash = createHash('sha256')
  let file: FileHandle | undefined
  try {
    let bytes = 0
    let held: Buffer[] = []
    let holding = 0
    for await (const chunk of source) {
      bytes += chunk.length
      if (bytes > longest) throw new Refusal('model_too_large', `a model may have ${longest} bytes`)
      hash.update(chunk)
      held.push(chunk)
      holding += chunk.length
      if (holding < heldBytes) continue
      file ??= await inStore(open(path, 'wx'))
      await append(file, held, holding)
      held = []
      holding = 0
    }
    if (bytes === 0) throw new Refusal('empty_model', 'the model file is empty')
    if (file === undefined) {
      file = await inStore(open(path, wholeInOneWrite))
      await append(file, held, holding)
    } else {
      if (holding > 0) await append(file, held, holding)
      await inStore(file.datasync())
    }
    return { sha256: hash.digest('hex'), bytes }
  } finally {
    await file?.close()
  }
}

async function append(file: FileHandle, chunks: readonly Buffer[], bytes: number): Promise<void> {
  const { bytesWritten } = await inStore(file.writev(chunks))
  // A disk that is nearly full takes a part; what it says to the rest is the reason.
  if (bytesWritten < bytes)
    await inStore(file.appendFile(Buffer.concat(chunks).subarray(bytesWritten)))
}

/** What the store does, and not whoever sends the bytes. */
async function inStore<Result>(work: Promise<Result>): Promise<Result> {
  try {
    return await work
  } catch (error) {
    throw unavailable('the model could not be stored, try again', error)
  }
}
