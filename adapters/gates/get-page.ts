import { Agent, request } from 'node:http'

export interface Page {
  readonly status: number
  /** Name, value, name, value: as they came. */
  readonly headers: readonly string[]
  readonly body: Buffer
  /** From the request to the last byte. */
  readonly ms: number
}

export interface Asked {
  readonly origin: string
  readonly path: string
  /** What the pages are made for: the door's name, also where the legacy process itself is asked. */
  readonly host: string
  readonly timeoutMs: number
}

const maximumBytes = 8_000_000

/** One connection, kept. Not `fetch`, which hides repeated headers and decodes bodies. */
export function oneConnection(): Agent {
  return new Agent({ keepAlive: true, maxSockets: 1 })
}

/** The whole answer; redirects are not followed. Rejects when there is none within the time. */
export function getPage(agent: Agent, { origin, path, host, timeoutMs }: Asked): Promise<Page> {
  return new Promise((resolve, reject) => {
    const began = performance.now()
    const outgoing = request(`${origin}${path}`, {
      agent,
      headers: { host, accept: 'text/html,*/*' },
    })
    const timer = setTimeout(
      () => outgoing.destroy(new Error(`no answer within ${timeoutMs} ms`)),
      timeoutMs,
    )
    const giveUp = (error: Error): void => {
      clearTimeout(timer)
      reject(error)
    }
    outgoing.on('error', giveUp)
    outgoing.on('response', (response) => {
      const chunks: Buffer[] = []
      let bytes = 0
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length
        if (bytes > maximumBytes) outgoing.destroy(new Error(`more than ${maximumBytes} bytes`))
        else chunks.push(chunk)
      })
      response.on('error', giveUp)
      response.on('end', () => {
        clearTimeout(timer)
        resolve({
          status: response.statusCode ?? 0,
          headers: response.rawHeaders,
          body: Buffer.concat(chunks),
          ms: performance.now() - began,
        })
      })
    })
    outgoing.end()
  })
}

/** The reason of a failed request; an AggregateError of both address families has none of its own. */
export function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(reasonOf).join(', ')
  if (!(error instanceof Error)) return String(error)
  return error.message || ('code' in error ? String(error.code) : error.name)
}
