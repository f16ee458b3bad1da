/** The body is no form; the message says why. */
export class MalformedMultipart extends Error {
  override readonly name = 'MalformedMultipart'
}

export interface Part {
  readonly name: string
  readonly isFile: boolean
  /** Must be read before the next part; what is left of it is skipped. */
  readonly content: AsyncIterable<Buffer>
}

const longestHead = 16 * 1024
const mostParts = 50
const headEnd = Buffer.from('\r\n\r\n')
const boundaryForm = /^multipart\/form-data\s*;.*?boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))/iu

/**
 * multipart/form-data (RFC 7578) as a stream that holds no more than a chunk. A body that is not closed properly is no body, and
 * what is refused here is refused in the MES's words: a parser of a library would take a part without a name, or tell otherwise of
 * a boundary that never comes, and partners would notice.
 * @throws MalformedMultipart
 */
export async function* readMultipart(
  body: AsyncIterable<Buffer>,
  contentType: string | undefined,
): AsyncGenerator<Part> {
  const boundary = boundaryForm.exec(contentType ?? '')
  if (boundary === null) throw malformed('the body must be multipart/form-data with a boundary')
  // The first boundary has no line break before it; with one it is like the others.
  const source = new Source(body, Buffer.from('\r\n'))
  const delimiter = Buffer.from(`\r\n--${boundary[1] ?? boundary[2]}`, 'latin1')
  await drain(source.upTo(delimiter))
  for (let count = 0; !(await atEnd(source)); count += 1) {
    if (count === mostParts) throw malformed('too many parts')
    const head = await source.text(headEnd, longestHead)
    const content = source.upTo(delimiter)
    yield { ...dispositionOf(head), content }
    await drain(content)
  }
}

/** Bytes that were read and not used yet, and where more come from. */
class Source {
  readonly #chunks: AsyncIterator<Buffer>
  #held: Buffer

  constructor(body: AsyncIterable<Buffer>, held: Buffer) {
    this.#chunks = body[Symbol.asyncIterator]()
    this.#held = held
  }

  /** What comes before the mark, as it comes; the mark is consumed. */
  async *upTo(mark: Buffer): AsyncGenerator<Buffer> {
    for (;;) {
      const at = this.#held.indexOf(mark)
      if (at !== -1) {
        const last = this.#held.subarray(0, at)
        this.#held = this.#held.subarray(at + mark.length)
        if (last.length > 0) yield last
        return
      }
      // The end may be the beginning of the mark.
      const safe = this.#held.length - mark.length + 1
      if (safe > 0) {
        const ready = this.#held.subarray(0, safe)
        this.#held = this.#held.subarray(safe)
        yield ready
      }
      // It is joined with as much of the next chunk as tells, not with all of it.
      const left = this.#held
      const next = await this.#read()
      const joint = Buffer.concat([left, next.subarray(0, mark.length - 1)])
      if (next.length < mark.length || joint.includes(mark))
        this.#held = Buffer.concat([left, next])
      else {
        if (left.length > 0) yield left
        this.#held = next
      }
    }
  }

  async text(mark: Buffer, longest: number): Promise<string> {
    for (;;) {
      const at = this.#held.indexOf(mark)
      if (at > longest || (at === -1 && this.#held.length > longest))
        throw malformed('the head of a part is too long')
      if (at !== -1) {
        const text = this.#held.toString('utf8', 0, at)
        this.#held = this.#held.subarray(at + mark.length)
        return text
      }
      await this.#more()
    }
  }

  async bytes(count: number): Promise<string> {
    while (this.#held.length < count) await this.#more()
    const text = this.#held.toString('latin1', 0, count)
    this.#held = this.#held.subarray(count)
    return text
  }

  async #more(): Promise<void> {
    const next = await this.#read()
    this.#held = this.#held.length === 0 ? next : Buffer.concat([this.#held, next])
  }

  async #read(): Promise<Buffer> {
    const next = await this.#chunks.next()
    if (next.done === true) throw malformed('the body ends before its last boundary')
    return next.value
  }
}

/** Right after a delimiter: `--` closes the body, a line break begins a part. */
async function atEnd(source: Source): Promise<boolean> {
  const next = await source.bytes(2)
  if (next !== '--' && next !== '\r\n')
    throw malformed('a boundary is followed by neither -- nor a line')
  return next === '--'
}

function dispositionOf(head: string): { name: string; isFile: boolean } {
  const disposition = /^content-disposition:\s*form-data\s*(;.*)$/imu.exec(head)?.[1]
  const name = /;\s*name=(?:"([^"]*)"|([^;\s]+))/iu.exec(disposition ?? '')
  if (name === null) throw malformed('a part has no name')
  return { name: name[1] ?? name[2] ?? '', isFile: /;\s*filename\*?=/iu.test(disposition ?? '') }
}

async function drain(content: AsyncIterable<Buffer>): Promise<void> {
  for await (const chunk of content) void chunk
}

function malformed(detail: string): MalformedMultipart {
  return new MalformedMultipart(detail)
}
