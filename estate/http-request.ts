import { createReadStream } from 'node:fs'
import { Agent, request } from 'node:http'

export interface Answer {
  readonly status: number
  readonly body: string
}

export interface Sent {
  readonly method?: 'GET' | 'POST' | 'PUT'
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Buffer | { readonly file: string; readonly bytes: number }
}

const agent = new Agent({ keepAlive: true })
const patienceMs = 300_000

/**
 * One request and its whole answer; redirects are not followed. Not `fetch`: it takes three times the processor time (0.6 ms against
 * 0.2 measured), and the people of an estate share two cores with the systems that they use.
 */
export function ask(url: string, sent: Sent = {}): Promise<Answer> {
  const { method = 'GET', body = '' } = sent
  const length =
    typeof body === 'string' || Buffer.isBuffer(body) ? Buffer.byteLength(body) : body.bytes
  const headers = { ...sent.headers, ...(method === 'GET' ? {} : { 'content-length': length }) }
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { method, agent, headers, timeout: patienceMs })
    outgoing.on('timeout', () => outgoing.destroy(new Error(`no answer in ${patienceMs} ms`)))
    // After the answer has begun (some answer before they have read the whole body) nobody listens to this any more.
    outgoing.on('error', reject)
    outgoing.on('response', (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', reject)
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() })
      })
    })
    if (typeof body === 'string' || Buffer.isBuffer(body)) {
      outgoing.end(body)
      return
    }
    const file = createReadStream(body.file)
    file.on('error', (error) => outgoing.destroy(error))
    outgoing.on('close', () => file.destroy())
    file.pipe(outgoing)
  })
}
