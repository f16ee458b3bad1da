import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'

import type { Log, LogFields } from '../../runtime/log.ts'

export type Behaviour = (request: IncomingMessage, response: ServerResponse) => void

/** A server that stands where Unleash should, and answers as badly as it is told to. */
export interface UnleashStub {
  /** Of the API. */
  readonly url: string
  /** How it answers from now on. */
  behave(behaviour: Behaviour): void
  /** Requests so far. */
  readonly asked: number
  /** How many clients have asked: each has an id of its own. */
  readonly clients: number
  /** Connections that are open. */
  connections(): Promise<number>
  close(): Promise<void>
  /** On the same port. */
  openAgain(): Promise<void>
}

export async function startUnleashStub(behaviour: Behaviour): Promise<UnleashStub> {
  let behave = behaviour
  let asked = 0
  const clients = new Set<string>()
  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    asked += 1
    clients.add(String(request.headers['unleash-connection-id']))
    request.resume()
    behave(request, response)
  }
  let server = await listen(answer, 0)
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('no port')
  const { port } = address
  return {
    url: `http://127.0.0.1:${port}/api`,
    behave(next) {
      behave = next
    },
    get asked() {
      return asked
    },
    get clients() {
      return clients.size
    },
    connections: () =>
      new Promise((resolve, reject) => {
        server.getConnections((error, count) => (error === null ? resolve(count) : reject(error)))
      }),
    async close() {
      if (!server.listening) return
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
    async openAgain() {
      server = await listen(answer, port)
    },
  }
}

async function listen(
  answer: (request: IncomingMessage, response: ServerResponse) => void,
  port: number,
): Promise<Server> {
  const server = createServer(answer)
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  return server
}

interface RolloutFlag {
  readonly name: string
  readonly enabled: boolean
  readonly strategies: readonly object[]
}

/** A flag as a person would set it. */
export function rollout(name: string, percent: number): RolloutFlag {
  return {
    name,
    enabled: true,
    strategies: [
      {
        name: 'flexibleRollout',
        parameters: { rollout: String(percent), groupId: 'strangler', stickiness: 'userId' },
        constraints: [],
        variants: [],
      },
    ],
  }
}

/** A list as Unleash tells it, with its ETag: 304 to whoever has it. */
export function tells(
  features: readonly unknown[],
  headers: Record<string, string> = {},
): Behaviour {
  const body = JSON.stringify({ version: 2, features })
  const etag = `"${Buffer.from(body).toString('base64url')}"`
  return (request, response) => {
    if (request.headers['if-none-match'] === etag)
      response.writeHead(304, { etag, ...headers }).end()
    else response.writeHead(200, { 'content-type': 'application/json', etag, ...headers }).end(body)
  }
}

export function says(status: number, body = '', headers: Record<string, string> = {}): Behaviour {
  return (_request, response) => void response.writeHead(status, headers).end(body)
}

/** Takes the request and never answers. */
export const hangs: Behaviour = () => undefined

/** Keeps what is logged. */
export interface KeptLog extends Log {
  readonly lines: readonly { level: string; event: string; fields: LogFields }[]
  count(event: string): number
}

export function keptLog(): KeptLog {
  const lines: { level: string; event: string; fields: LogFields }[] = []
  const keep =
    (level: string) =>
    (event: string, fields: LogFields = {}): void => {
      lines.push({ level, event, fields })
    }
  return {
    lines,
    count: (event) => lines.filter((line) => line.event === event).length,
    info: keep('info'),
    warn: keep('warn'),
    error: keep('error'),
  }
}
