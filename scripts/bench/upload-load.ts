import { randomBytes, randomUUID } from 'node:crypto'
import { Agent, request } from 'node:http'

import { type Rate, rateOf } from '../../delivery/bench/rate.ts'

/** Uploads of models that differ from each other: a store that keeps a model once has nothing to gain. */
export class UploadLoad {
  readonly #agent: Agent
  readonly #filler: Buffer
  readonly #key: string

  constructor(options: {
    readonly clients: number
    readonly modelBytes: number
    readonly key: string
  }) {
    this.#agent = new Agent({ keepAlive: true, maxSockets: options.clients })
    this.#filler = randomBytes(options.modelBytes)
    this.#key = options.key
  }

  /** So many at a time until `count` are accepted. @throws Error for any other answer than 201 */
  async submit(origin: string, count: number, clients: number): Promise<Rate> {
    const latencies: number[] = []
    let left = count
    const began = performance.now()
    await Promise.all(
      Array.from({ length: clients }, async () => {
        for (; left > 0;) {
          left -= 1
          const at = performance.now()
          await this.one(origin)
          latencies.push(performance.now() - at)
        }
      }),
    )
    return rateOf(count, performance.now() - began, latencies)
  }

  /** Resolves with the id of the accepted order. */
  one(origin: string): Promise<string> {
    const boundary = 'bench-boundary'
    const externalId = randomUUID()
    const head = Buffer.from(
      ['external_id', externalId, 'material', 'PLA', 'quantity', '1']
        .reduce<string[][]>(
          (pairs, each, at, all) => (at % 2 === 0 ? [...pairs, [each, all[at + 1]!]] : pairs),
          [],
        )
        .map(
          ([name, value]) =>
            `--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`,
        )
        .join('') +
        `--${boundary}\r\nContent-Disposition: form-data; name="model"; filename="m.stl"\r\nContent-Type: model/stl\r\n\r\n${externalId}`,
    )
    const tail = Buffer.from(`\r\n--${boundary}--\r\n`)
    return new Promise((resolve, reject) => {
      const sent = request(
        `${origin}/api/partner/v1/orders`,
        {
          method: 'POST',
          agent: this.#agent,
          headers: {
            'x-api-key': this.#key,
            'content-type': `multipart/form-data; boundary=${boundary}`,
            'content-length': head.length + this.#filler.length + tail.length,
          },
        },
        (response) => {
          let text = ''
          response.setEncoding('utf8')
          response.on('data', (chunk: string) => {
            text += chunk
          })
          response.on('end', () => {
            if (response.statusCode !== 201) {
              reject(new Error(`expected 201, got ${response.statusCode}: ${text}`))
              return
            }
            const { id }: { id: string } = JSON.parse(text)
            resolve(id)
          })
          response.on('error', reject)
        },
      )
      sent.on('error', reject)
      sent.write(head)
      sent.write(this.#filler)
      sent.end(tail)
    })
  }

  close(): void {
    this.#agent.destroy()
  }
}
