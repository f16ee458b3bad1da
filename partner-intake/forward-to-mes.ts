import { randomUUID } from 'node:crypto'
import { type IncomingMessage, request as httpRequest } from 'node:http'
import { pipeline } from 'node:stream/promises'

import type { ModelStore } from './model-store.ts'
import type { Submission } from './read-submission.ts'

export interface MesAnswer {
  readonly status: number
  readonly contentType: string
  readonly body: Buffer
  /** Of a 201. */
  readonly orderId: string | undefined
}

/** not_sent: the MES can't have it. unknown: it may have made the order. */
export type Forwarded =
  | { readonly outcome: 'answered'; readonly answer: MesAnswer }
  | { readonly outcome: 'not_sent'; readonly reason: string }
  | { readonly outcome: 'unknown'; readonly reason: string }

interface MesPartnerApi {
  readonly origin: string
  readonly answerWithinMs: number
  readonly store: ModelStore
}

const longestAnswer = 64 * 1024

/** Submits an order at the partner API of the MES, as the partner would. Sent once, never again: the MES does not deduplicate. */
export async function forwardToMes(
  mes: MesPartnerApi,
  submission: Submission,
  headers: Readonly<Record<string, string>>,
): Promise<Forwarded> {
  const boundary = `strangler-${randomUUID()}`
  const head = formHead(boundary, submission)
  const tail = Buffer.from(`\r\n--${boundary}--\r\n`)
  // A connection of its own: one that was used before may be closed by the MES just now, and nobody could say what it has done.
  const sent = httpRequest(`${mes.origin}/api/partner/v1/orders`, {
    method: 'POST',
    agent: false,
    headers: {
      ...headers,
      'content-type': `multipart/form-data; boundary=${boundary}`,
      'content-length': head.length + submission.model.bytes + tail.length,
    },
    signal: AbortSignal.timeout(mes.answerWithinMs),
  })
  let connected = false
  sent.once('socket', (socket) => {
    socket.once('connect', () => {
      connected = true
    })
  })
  const answered = new Promise<IncomingMessage>((resolve, reject) => {
    sent.once('response', resolve)
    sent.once('error', reject)
  })
  const model = mes.store.read(submission.model.key)
  const writing = pipeline(async function* parts() {
    yield head
    yield* model
    yield tail
  }, sent)
  // An answer may come before the body is written; what then breaks the writing is no news.
  writing.catch(() => undefined)
  try {
    const answer = await readAnswer(await answered)
    // What the MES refuses it has not made. A failure of its own may have come after it had.
    const isRefused = answer.status >= 400 && answer.status < 500
    return answer.orderId !== undefined || isRefused
      ? { outcome: 'answered', answer }
      : { outcome: 'unknown', reason: `the MES answered ${answer.status}` }
  } catch (error) {
    model.destroy()
    const reason = error instanceof Error ? error.message : String(error)
    return { outcome: connected ? 'unknown' : 'not_sent', reason }
  } finally {
    sent.destroy()
  }
}

async function readAnswer(response: IncomingMessage): Promise<MesAnswer> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    length += chunk.length
    if (length > longestAnswer) throw new Error('the answer of the MES is too long')
    chunks.push(chunk)
  }
  const body = Buffer.concat(chunks)
  const status = response.statusCode ?? 0
  return {
    status,
    contentType: response.headers['content-type'] ?? 'application/json; charset=utf-8',
    body,
    orderId: status === 201 ? orderIdOf(body) : undefined,
  }
}

/** @throws Error for a 201 without an id: the order may have been made, and nobody knows which */
function orderIdOf(body: Buffer): string {
  const answer: unknown = JSON.parse(body.toString('utf8'))
  if (
    typeof answer === 'object' &&
    answer !== null &&
    'id' in answer &&
    typeof answer.id === 'string'
  )
    return answer.id
  throw new Error('the MES accepted an order and named none')
}

function formHead(boundary: string, submission: Submission): Buffer {
  const { externalId, material, quantity, comment } = submission
  const fields = {
    external_id: externalId,
    material,
    quantity: String(quantity),
    ...(comment !== null && { comment }),
  }
  const parts = Object.entries(fields).map(
    ([name, value]) =>
      `--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`,
  )
  return Buffer.from(
    `${parts.join('')}--${boundary}\r\nContent-Disposition: form-data; name="model"; filename="model"\r\n` +
      'Content-Type: application/octet-stream\r\n\r\n',
  )
}
