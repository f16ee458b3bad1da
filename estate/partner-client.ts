import { setTimeout as pause } from 'node:timers/promises'

import type { Exchange, GotAnswer, SentRequest } from './openapi-conformance.ts'

export interface SentOrder {
  readonly externalId: string
  readonly fields: Readonly<Record<string, string>>
  readonly model: Uint8Array<ArrayBuffer>
}

export interface PartnerTally {
  /** Requests that were sent, whatever became of them. */
  sent: number
  /** Broken off by the client itself, answered with an error, or not at all. */
  failed: number
  /** Answers that said they were the first one again. */
  replayed: number
}

/** A 4xx that the same request will get again: the client was wrong, and must not go on. */
class RefusedForGood extends Error {}

/**
 * A partner that trusts nothing: it sends every order until it has an answer, breaks some of its own requests off, and sends what
 * was accepted again. Resolves with the one id that each order got.
 * @throws Error when an order got two ids, or was refused for good
 */
export async function submitUntilAccepted(
  api: () => string,
  key: string,
  order: SentOrder,
  options: {
    readonly tally: PartnerTally
    /** How often it is sent again after it was accepted. */
    readonly again: number
    /** Breaks this try off after so many milliseconds; undefined: lets it be. */
    readonly cutAfterMs: (tries: number) => number | undefined
    readonly headers?: Readonly<Record<string, string>>
    readonly signal?: AbortSignal
    /** Every request that was answered. */
    onExchange?(exchange: Exchange): void
  },
): Promise<string> {
  const { tally } = options
  const ids = new Set<string>()
  let accepted = 0
  for (let tries = 0; accepted <= options.again; tries += 1) {
    options.signal?.throwIfAborted()
    const cut = options.cutAfterMs(tries)
    tally.sent += 1
    try {
      const request = await asSent(`${api()}/orders`, {
        method: 'POST',
        headers: { 'x-api-key': key, ...options.headers },
        body: orderForm(order.fields, order.model),
      })
      const answer = await send(request, AbortSignal.timeout(cut ?? 60_000))
      options.onExchange?.({ request, answer })
      const { status, headers, text } = answer
      if (status === 201 || status === 202) {
        const { id }: { id: string } = JSON.parse(text)
        ids.add(id)
        accepted += 1
        if (headers.get('idempotent-replay') === 'true') tally.replayed += 1
        continue
      }
      tally.failed += 1
      const mayPass = status >= 500 || status === 409 || status === 429
      if (!mayPass) throw new RefusedForGood(`${status} ${text}`)
    } catch (error) {
      if (error instanceof RefusedForGood) throw error
      tally.failed += 1
    }
    await pause(20 + Math.random() * 80)
  }
  if (ids.size !== 1) throw new Error(`${order.externalId} got ${ids.size} ids: ${[...ids].join()}`)
  return [...ids][0]!
}

export function orderForm(
  fields: Readonly<Record<string, string>>,
  model: Uint8Array<ArrayBuffer> | undefined,
): FormData {
  const form = new FormData()
  for (const [name, value] of Object.entries(fields)) form.set(name, value)
  if (model !== undefined) form.set('model', new Blob([model]), 'model.stl')
  return form
}

/** A request with the very bytes and headers that go out, so that they can be looked at afterwards. */
export async function asSent(url: string, init: RequestInit): Promise<SentRequest> {
  const request = new Request(url, init)
  const body = new Uint8Array(await request.arrayBuffer())
  return { method: request.method, url, headers: request.headers, body }
}

export async function send(
  { method, url, headers, body }: SentRequest,
  signal: AbortSignal,
): Promise<GotAnswer> {
  const response = await fetch(url, {
    method,
    headers,
    signal,
    ...(body.length > 0 && { body }),
  })
  return { status: response.status, headers: response.headers, text: await response.text() }
}
