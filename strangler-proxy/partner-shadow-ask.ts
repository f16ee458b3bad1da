import { Agent, type IncomingMessage, request as httpRequest } from 'node:http'

import { shadowHeader, type ShadowOrder, shadowOrdersPath } from '../contracts/partner-shadow.ts'
import { answerOf, type ShadowAnswer } from './partner-shadow-answer.ts'
import { longestKept } from './partner-shadow-order.ts'

/** unreachable: no answer, or not in time. failed: it failed. not_seen: the intake would have needed more of the order. */
export class NoAnswer extends Error {
  override readonly name = 'NoAnswer'
  readonly reason: 'unreachable' | 'failed' | 'not_seen' | 'too_large'

  constructor(reason: NoAnswer['reason'], cause?: unknown) {
    super(reason, { cause })
    this.reason = reason
  }
}

interface Asking {
  readonly origin: string
  readonly path: string
  readonly apiKey?: string
  readonly body?: string
}

/** Asks for the shadow: over connections that no partner's request uses, and each for a bounded time. */
export class ShadowAsker {
  readonly #timeoutMs: number
  readonly #stopping: AbortSignal
  readonly #agent: Agent

  constructor(options: {
    readonly atOnce: number
    readonly timeoutMs: number
    readonly stopping: AbortSignal
  }) {
    this.#timeoutMs = options.timeoutMs
    this.#stopping = options.stopping
    // None is used twice: one that was closed meanwhile would look like an intake that is away.
    this.#agent = new Agent({ keepAlive: false, maxSockets: options.atOnce })
  }

  /** @throws NoAnswer */
  async order(origin: string, order: ShadowOrder): Promise<ShadowAnswer> {
    const body = JSON.stringify(order)
    const { answer, head } = await this.#ask({ origin, path: shadowOrdersPath, body })
    if (head.headers[shadowHeader] === undefined)
      throw new NoAnswer(answer.status === 204 ? 'not_seen' : 'failed')
    return answer
  }

  /** @throws NoAnswer */
  async read(origin: string, path: string, apiKey: string): Promise<ShadowAnswer> {
    return (await this.#ask({ origin, path, apiKey })).answer
  }

  async #ask(asking: Asking): Promise<{ answer: ShadowAnswer; head: IncomingMessage }> {
    const head = await this.#send(asking).catch((error: unknown) => {
      throw new NoAnswer('unreachable', error)
    })
    const body = await bodyOf(head)
    const answer = answerOf(head, body)
    // What fails says nothing of what would have been answered.
    if (answer === undefined || answer.status >= 500) throw new NoAnswer('failed')
    return { answer, head }
  }

  #send({ origin, path, apiKey, body }: Asking): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const sent = httpRequest(origin + path, {
        method: body === undefined ? 'GET' : 'POST',
        agent: this.#agent,
        headers: {
          [shadowHeader]: 'ask',
          ...(apiKey !== undefined && { 'x-api-key': apiKey }),
          ...(body !== undefined && {
            'content-type': 'application/json',
            'content-length': Buffer.byteLength(body),
          }),
        },
        signal: AbortSignal.any([this.#stopping, AbortSignal.timeout(this.#timeoutMs)]),
      })
      sent.on('error', reject)
      sent.once('response', resolve)
      sent.end(body)
    })
  }
}

async function bodyOf(head: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  try {
    for await (const chunk of head as AsyncIterable<Buffer>) {
      length += chunk.length
      if (length > longestKept) throw new NoAnswer('too_large')
      chunks.push(chunk)
    }
  } catch (error) {
    throw error instanceof NoAnswer ? error : new NoAnswer('unreachable', error)
  }
  return Buffer.concat(chunks)
}
