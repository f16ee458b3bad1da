import { createHash } from 'node:crypto'

import { MalformedMultipart, type Part, readMultipart } from '../contracts/multipart-reader.ts'
import { shadowedHeaders, type ShadowOrder, type ShadowPart } from '../contracts/partner-shadow.ts'
import type { HeaderMap } from './request-prelude.ts'

/** Of the fields of an order, together; its answer may be as long. */
export const longestKept = 64 * 1024
/** Of one field: more than any that is taken. */
const longestValue = 16 * 1024
// What comes in a turn is read in it, and that is no more than the socket gave. More than this: the reader is not keeping up.
const mostHeld = 2 ** 20

class TooLarge extends Error {}
class Cut extends Error {}

/**
 * Reads an order that passes by, chunk for chunk, and keeps its fields and the hash of its model. It never holds a chunk longer
 * than a turn and never makes anybody wait: what it can't take it gives up.
 */
export class PassingOrder {
  readonly #headers: Readonly<Record<string, string>>
  readonly #apiKey: string
  readonly #chunks = new ChunkQueue()
  readonly #parts: ShadowPart[] = []
  readonly #read: Promise<Pick<ShadowOrder, 'end' | 'detail'> | undefined>
  #kept = 0
  #lastIsBroken = false

  constructor(headers: HeaderMap, apiKey: string) {
    this.#headers = Object.fromEntries(
      shadowedHeaders.flatMap((name) => {
        const value = headers[name]
        return value === undefined ? [] : [[name, [value].flat().join(', ')]]
      }),
    )
    this.#apiKey = apiKey
    this.#read = this.#readAll()
  }

  bytes(chunk: Buffer): void {
    this.#chunks.push(chunk)
  }

  end(): void {
    this.#chunks.end()
  }

  /** No more will come: what is not there by now was not seen. */
  async finish(): Promise<ShadowOrder | undefined> {
    this.#chunks.fail(new Cut())
    const read = await this.#read
    if (read === undefined) return undefined
    return {
      apiKeySha256: createHash('sha256').update(this.#apiKey).digest('hex'),
      headers: this.#headers,
      parts: this.#parts,
      lastIsBroken: this.#lastIsBroken,
      ...read,
    }
  }

  /** undefined: it is not kept. */
  async #readAll(): Promise<Pick<ShadowOrder, 'end' | 'detail'> | undefined> {
    try {
      for await (const part of readMultipart(this.#chunks, this.#headers['content-type'])) {
        this.#lastIsBroken = true
        if (part.name === 'model') await this.#hash(part)
        else await this.#keep(part)
        this.#lastIsBroken = false
      }
      return { end: 'whole' }
    } catch (error) {
      if (error instanceof MalformedMultipart) return { end: 'malformed', detail: error.message }
      return error instanceof Cut ? { end: 'cut' } : undefined
    } finally {
      this.#chunks.close()
    }
  }

  async #hash({ name, isFile, content }: Part): Promise<void> {
    const hash = createHash('sha256')
    const at = this.#add({ name, isFile, bytes: 0 })
    let bytes = 0
    try {
      for await (const chunk of content) {
        bytes += chunk.length
        hash.update(chunk)
      }
      this.#parts[at] = { name, isFile, bytes, sha256: hash.digest('hex') }
    } catch (error) {
      this.#parts[at] = { name, isFile, bytes }
      throw error
    }
  }

  async #keep({ name, isFile, content }: Part): Promise<void> {
    const at = this.#add({ name, isFile, bytes: 0 })
    const kept: Buffer[] = []
    let bytes = 0
    let length = 0
    try {
      for await (const chunk of content) {
        bytes += chunk.length
        const more = chunk.subarray(0, longestValue - length)
        if (more.length === 0) continue
        this.#take(more.length)
        length += more.length
        // A copy: a slice would hold on to the whole chunk.
        kept.push(Buffer.from(more))
      }
    } finally {
      const value = Buffer.concat(kept).toString('base64')
      this.#parts[at] = { name, isFile, bytes, value }
    }
  }

  #add(part: ShadowPart): number {
    this.#take(part.name.length)
    return this.#parts.push(part) - 1
  }

  #take(bytes: number): void {
    this.#kept += bytes
    if (this.#kept > longestKept) throw new TooLarge()
  }
}

/** From whoever pushes to whoever reads. Once it is closed, or has failed, it takes and holds nothing. */
class ChunkQueue implements AsyncIterable<Buffer> {
  #held: Buffer[] = []
  #heldBytes = 0
  #state: 'open' | 'ended' | 'closed' = 'open'
  #error: Error | undefined
  #wake: (() => void) | undefined

  push(chunk: Buffer): void {
    if (this.#state !== 'open' || this.#error !== undefined) return
    this.#heldBytes += chunk.length
    if (this.#heldBytes > mostHeld) {
      this.#held = []
      this.fail(new TooLarge())
      return
    }
    this.#held.push(chunk)
    this.#wake?.()
  }

  end(): void {
    if (this.#state === 'open') this.#state = 'ended'
    this.#wake?.()
  }

  /** Behind what is held; nothing where the end is known. */
  fail(error: Error): void {
    if (this.#state === 'open') this.#error ??= error
    this.#wake?.()
  }

  close(): void {
    this.#state = 'closed'
    this.#held = []
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer> {
    for (;;) {
      const next = this.#held.shift()
      if (next !== undefined) {
        this.#heldBytes -= next.length
        yield next
        continue
      }
      if (this.#error !== undefined) throw this.#error
      if (this.#state !== 'open') return
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
      this.#wake = undefined
    }
  }
}
