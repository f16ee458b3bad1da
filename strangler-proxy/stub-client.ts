import { request } from 'node:http'
import type { ClientRequest, IncomingMessage, RequestOptions } from 'node:http'
import { connect } from 'node:net'
import type { Socket } from 'node:net'

export interface Received {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly rawHeaders: string[]
  readonly body: Buffer
  /** False when the connection broke before the end that the answer announced. */
  readonly whole: boolean
}

/** A raw connection and everything that came on it, byte for byte. */
export class RawClient {
  readonly socket: Socket
  readonly closed: Promise<void>
  #seen = Buffer.alloc(0)
  #waiting: (() => void)[] = []

  constructor(port: number) {
    this.socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
    this.socket.on('error', () => this.socket.destroy())
    this.socket.on('data', (chunk: Buffer) => {
      this.#seen = Buffer.concat([this.#seen, chunk])
      for (const wake of this.#waiting.splice(0)) wake()
    })
    this.socket.on('end', () => this.socket.end())
    this.closed = new Promise((resolve) => {
      this.socket.on('close', () => {
        resolve()
        for (const wake of this.#waiting.splice(0)) wake()
      })
    })
  }

  get text(): string {
    return this.#seen.toString('latin1')
  }

  write(text: string | Buffer): this {
    this.socket.write(typeof text === 'string' ? Buffer.from(text, 'latin1') : text)
    return this
  }

  /** Resolves with all text so far once it holds `part`, or when the connection ends. */
  async until(part: string): Promise<string> {
    while (!this.text.includes(part) && !this.socket.destroyed) {
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve)
      })
    }
    return this.text
  }
}

/** One request over a connection of its own; the whole text of what came back until the close. */
export async function rawExchange(port: number, text: string | Buffer): Promise<string> {
  const client = new RawClient(port).write(text)
  await client.closed
  return client.text
}

interface Sent extends RequestOptions {
  readonly body?: string | Buffer
  readonly onRequest?: (sent: ClientRequest) => void
}

/** Rejects when no head came at all. */
export function fetchFrom(port: number, path: string, sent: Sent = {}): Promise<Received> {
  const { body, onRequest, ...options } = sent
  return new Promise((resolve, reject) => {
    const outgoing = request({ host: '127.0.0.1', port, path, agent: false, ...options })
    outgoing.on('error', reject)
    outgoing.on('response', (answer) => {
      outgoing.off('error', reject)
      outgoing.on('error', () => undefined)
      const chunks: Buffer[] = []
      answer.on('data', (chunk: Buffer) => chunks.push(chunk))
      answer.on('error', () => undefined)
      answer.on('close', () =>
        resolve({
          status: answer.statusCode ?? 0,
          headers: answer.headers,
          rawHeaders: answer.rawHeaders,
          body: Buffer.concat(chunks),
          whole: answer.complete,
        }),
      )
    })
    onRequest?.(outgoing)
    if (onRequest === undefined) outgoing.end(body)
  })
}
