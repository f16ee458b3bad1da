import { Refusal } from '../refusal.ts'

export type Part = {
  readonly name: string
  readonly isFile: boolean
  readonly content: AsyncIterable<Buffer>
}

const longestHead = 16 * 1024
const mostParts = 50
const headEnd = Buffer.from('\r\n\r\n')

/** multipart/form-data as a stream: never holds more than a chunk, and takes nothing that is not closed properly. */
export class MultipartReader {
  readonly #source: AsyncIterator<Buffer>
  readonly #delimiter: Buffer
  // The first boundary has no line break before it; with one it is like the others.
  #held = Buffer.from('\r\n')

  constructor(source: AsyncIterable<Buffer>, contentType: string | undefined) {
    const boundary =
      /^multipart\/form-data\s*;.*?boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))/iu.exec(
        contentType ?? '',
      )
    if (!boundary) throw malformed('the body must be multipart/form-data with a boundary')
    this.#delimiter = Buffer.from(`\r\n--${boundary[1] ?? boundary[2]}`, 'latin1')
    this.#source = source[Symbol.asyncIterator]()
  }

  /** A part's content must be read before the next part; what is left of it is skipped. */
  async *parts(): AsyncGenerator<Part> {
    await drain(this.#content())
    for (let count = 0; !(await this.#atEnd()); count += 1) {
      if (count === mostParts) throw malformed('too many parts')
      const disposition = dispositionOf(await this.#head())
      const content = this.#content()
      yield { ...disposition, content }
      await drain(content)
    }
  }

  /** Up to the next delimiter, which is consumed. */
  async *#content(): AsyncGenerator<Buffer> {
    for (;;) {
      const at = this.#held.indexOf(this.#delimiter)
      if (at !== -1) {
        const last = this.#held.subarray(0, at)
        this.#held = this.#held.subarray(at + this.#delimiter.length)
        if (last.length > 0) yield last
        return
      }
      const safe = this.#held.length - this.#delimiter.length + 1
      if (safe > 0) {
        const ready = this.#held.subarray(0, safe)
        this.#held = this.#held.subarray(safe)
        yield ready
      }
      await this.#more()
    }
  }

  /** Right after a delimiter: `--` closes the body, a line break begins a part. */
  async #atEnd(): Promise<boolean> {
    while (this.#held.length < 2) await this.#more()
    const next = this.#held.toString('latin1', 0, 2)
    this.#held = this.#held.subarray(2)
    if (next !== '--' && next !== '\r\n')
      throw malformed('a boundary is followed by neither -- nor a line')
    return next === '--'
  }

  async #head(): Promise<string> {
    for (;;) {
      const at = this.#held.indexOf(headEnd)
      if (at > longestHead || (at === -1 && this.#held.length > longestHead)) {
        throw malformed('the head of a part is too long')
      }
      if (at !== -1) {
        const head = this.#held.toString('utf8', 0, at)
        this.#held = this.#held.subarray(at + headEnd.length)
        return head
      }
      await this.#more()
    }
  }

  async #more(): Promise<void> {
    const { done, value } = await this.#source.next()
    if (done) throw malformed('the body ends before its last boundary')
    this.#held = Buffer.concat([this.#held, value])
  }
}

function dispositionOf(head: string): { name: string; isFile: boolean } {
  const disposition = /^content-disposition:\s*form-data\s*(;.*)$/imu.exec(head)?.[1]
  const name = /;\s*name=(?:"([^"]*)"|([^;\s]+))/iu.exec(disposition ?? '')
  if (!name) throw malformed('a part has no name')
  return { name: name[1] ?? name[2] ?? '', isFile: /;\s*filename\*?=/iu.test(disposition ?? '') }
}

async function drain(content: AsyncIterable<Buffer>): Promise<void> {
  for await (const chunk of content) void chunk
}

function malformed(message: string): Refusal {
  return new Refusal(400, 'malformed_multipart', message)
}
