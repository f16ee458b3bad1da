import type { ServerResponse } from 'node:http'

export type OrderChange = { readonly orderId: string; readonly status: string }

const keepAliveMs = 15_000

/** Tells every open page at once that an order has come or moved. */
export class ChangeFeed {
  readonly #pages = new Set<ServerResponse>()
  readonly #keepAlive: NodeJS.Timeout
  #ended = false

  constructor() {
    this.#keepAlive = setInterval(() => this.#write(': still here\n\n'), keepAliveMs)
    this.#keepAlive.unref()
  }

  open(response: ServerResponse): void {
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' })
    response.write('retry: 500\n: connected\n\n')
    if (this.#ended) response.end()
    this.#pages.add(response)
    response.on('close', () => this.#pages.delete(response))
  }

  tell(change: OrderChange): void {
    this.#write(`event: orders\ndata: ${JSON.stringify(change)}\n\n`)
  }

  end(): void {
    this.#ended = true
    clearInterval(this.#keepAlive)
    for (const page of this.#pages) page.end()
  }

  #write(text: string): void {
    for (const page of this.#pages) page.write(text)
  }
}
