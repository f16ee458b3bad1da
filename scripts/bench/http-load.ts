import { once } from 'node:events'
import { createServer } from 'node:http'
import { connect, type Socket } from 'node:net'

import { type Rate, rateOf } from '../../delivery/bench/rate.ts'

/** A page as an upstream, from this process, so that it costs little: what is measured is what stands before it. */
export async function startPage(): Promise<{ origin: string; stop(): Promise<void> }> {
  const body = Buffer.from(
    `<!doctype html><title>Order</title>${'<p>A line of a page.'.repeat(100)}`,
  )
  const server = createServer((_request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/html', 'Content-Length': body.length })
    response.end(body)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the page has no port')
  return {
    origin: `http://127.0.0.1:${address.port}`,
    async stop() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

/** Connections that are kept, each with one request at a time; bare, so that they cost less than what they measure. */
export class HttpClients {
  readonly #clients: Socket[]

  private constructor(clients: Socket[]) {
    this.#clients = clients
  }

  static async open(port: number, count: number): Promise<HttpClients> {
    const clients = Array.from({ length: count }, () => connect({ port, host: '127.0.0.1' }))
    await Promise.all(clients.map((client) => once(client, 'connect')))
    return new HttpClients(clients)
  }

  async gets(path: string, count: number): Promise<Rate> {
    const request = Buffer.from(`GET ${path} HTTP/1.1\r\nHost: shop\r\nAccept: text/html\r\n\r\n`)
    const latencies: number[] = []
    let left = count
    const began = performance.now()
    await Promise.all(
      this.#clients.map(async (client) => {
        for (; left > 0;) {
          left -= 1
          const at = performance.now()
          client.write(request)
          await answered(client)
          latencies.push(performance.now() - at)
        }
      }),
    )
    return rateOf(count, performance.now() - began, latencies)
  }

  close(): void {
    for (const client of this.#clients) client.destroy()
  }
}

/** Resolves with the last byte of an answer that says its length. */
function answered(client: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    let text = ''
    const over = (error?: Error): void => {
      client.off('data', onData).off('close', onClose)
      if (error === undefined) resolve()
      else reject(error)
    }
    const onClose = (): void => over(new Error(`the door closed a connection after: ${text}`))
    const onData = (chunk: Buffer): void => {
      text += chunk.toString('latin1')
      const head = text.indexOf('\r\n\r\n')
      if (head === -1) return
      const length = /^HTTP\/1\.1 200 [^]*?\r\ncontent-length: (\d+)\r\n/i.exec(text)?.[1]
      if (length === undefined) over(new Error(`expected a page, got: ${text.slice(0, 300)}`))
      else if (text.length === head + 4 + Number(length)) over()
    }
    client.on('data', onData).on('close', onClose)
  })
}
