import { createHash } from 'node:crypto'
import type { Readable } from 'node:stream'

export type ReadModel = { readonly triangles: number; readonly sha256: string }

const facet = Buffer.from('facet normal')
const binaryHead = 84
const binaryTriangle = 50

/** Counts what is really there, in one pass of chunks. A count in the file is believed only if the size agrees. */
export async function readModel(content: Readable, bytes: number): Promise<ReadModel> {
  const hash = createHash('sha256')
  let head = Buffer.alloc(0)
  let facets = 0
  let tail = Buffer.alloc(0)
  for await (const chunk of content as AsyncIterable<Buffer>) {
    hash.update(chunk)
    if (head.length < binaryHead) head = Buffer.concat([head, chunk.subarray(0, binaryHead)])
    const text = Buffer.concat([tail, chunk])
    facets += occurrences(text, facet)
    // Too short to hold a whole match: what was counted is not counted again.
    tail = text.subarray(Math.max(0, text.length - facet.length + 1))
  }
  return { triangles: countedBy(head, bytes, facets), sha256: hash.digest('hex') }
}

function countedBy(head: Buffer, bytes: number, facets: number): number {
  if (head.length >= binaryHead) {
    const claimed = head.readUInt32LE(80)
    if (bytes === binaryHead + binaryTriangle * claimed) return claimed
  }
  if (facets > 0 && /^\s*solid\b/u.test(head.toString('latin1'))) return facets
  return Math.floor(bytes / binaryTriangle)
}

function occurrences(text: Buffer, wanted: Buffer): number {
  let count = 0
  for (let at = text.indexOf(wanted); at !== -1; at = text.indexOf(wanted, at + wanted.length)) {
    count += 1
  }
  return count
}
