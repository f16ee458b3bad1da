import type { IncomingMessage } from 'node:http'
import { brotliDecompressSync, gunzipSync, inflateSync } from 'node:zlib'

import { longestKept } from './partner-shadow-order.ts'

export interface ShadowAnswer {
  readonly status: number
  readonly contentType: string
  readonly body: Buffer
}

type Head = Pick<IncomingMessage, 'statusCode' | 'headers'>

/** An answer as it passes by, if it is short. */
export class PassingAnswer {
  #head: Head | undefined
  #chunks: Buffer[] = []
  #length = 0

  get status(): number {
    return this.#head?.statusCode ?? 0
  }

  head(answer: Head): void {
    this.#head = answer
  }

  bytes(chunk: Buffer): void {
    this.#length += chunk.length
    if (this.#length > longestKept) this.#chunks = []
    else this.#chunks.push(Buffer.from(chunk))
  }

  /** undefined: it is too long, or in a coding that nobody here reads. */
  finish(): ShadowAnswer | undefined {
    if (this.#head === undefined || this.#length > longestKept) return undefined
    return answerOf(this.#head, Buffer.concat(this.#chunks))
  }
}

export function answerOf(head: Head, body: Buffer): ShadowAnswer | undefined {
  const decoded = decode(body, head.headers['content-encoding'])
  if (decoded === undefined) return undefined
  return {
    status: head.statusCode ?? 0,
    contentType: head.headers['content-type'] ?? '',
    body: decoded,
  }
}

function decode(body: Buffer, coding: string | undefined): Buffer | undefined {
  const within = { maxOutputLength: 4 * longestKept }
  try {
    switch (coding?.trim().toLowerCase()) {
      case undefined:
      case '':
      case 'identity':
        return body
      case 'gzip':
      case 'x-gzip':
        return gunzipSync(body, within)
      case 'deflate':
        return inflateSync(body, within)
      case 'br':
        return brotliDecompressSync(body, within)
      default:
        return undefined
    }
  } catch {
    return undefined
  }
}
