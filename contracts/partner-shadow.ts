/*
 * What proxy and intake say to each other of a partner's order that went to the MES: the proxy tells what passed by, without the
 * model and without the key, and the intake says what it would have answered. Nothing of it makes an order.
 *
 * `POST /shadow/orders`, header `x-strangler-shadow`, a ShadowOrder as JSON. An answer that carries the header is what a partner
 * would have got; one without it says nothing. No door of the proxy leads there, and every door takes the header off.
 */

export const shadowHeader = 'x-strangler-shadow'
export const shadowOrdersPath = '/shadow/orders'

/** What is compared, each counted for itself. */
export const shadowEndpoints = ['POST /orders', 'GET /orders/:id', 'GET /orders'] as const
export type ShadowEndpoint = (typeof shadowEndpoints)[number]

/** Of the request, what the intake's answer depends on. */
export const shadowedHeaders = [
  'content-length',
  'content-type',
  'idempotency-key',
  'prefer',
] as const

export interface ShadowPart {
  readonly name: string
  readonly isFile: boolean
  readonly bytes: number
  /** Hex, of a model that was seen to its end. */
  readonly sha256?: string | undefined
  /** Base64, of anything else; of a long one only the beginning. */
  readonly value?: string | undefined
}

export interface ShadowOrder {
  /** Hex. */
  readonly apiKeySha256: string
  readonly headers: Readonly<Record<string, string>>
  readonly parts: readonly ShadowPart[]
  /** malformed, cut: in the middle of the last part, or behind it. cut: the MES had answered before the rest came. */
  readonly end: 'whole' | 'malformed' | 'cut'
  /** Why it is malformed. */
  readonly detail?: string | undefined
  /** The last part is not whole. */
  readonly lastIsBroken: boolean
}

/** undefined: it is none. */
export function readShadowOrder(given: unknown): ShadowOrder | undefined {
  if (!isRecord(given)) return undefined
  const { apiKeySha256, headers, parts, end, detail, lastIsBroken } = given
  if (typeof apiKeySha256 !== 'string' || !/^[0-9a-f]{64}$/u.test(apiKeySha256)) return undefined
  if (end !== 'whole' && end !== 'malformed' && end !== 'cut') return undefined
  if (!isRecord(headers) || !Array.isArray(parts) || typeof lastIsBroken !== 'boolean')
    return undefined
  const known = parts.filter(isPart)
  if (known.length !== parts.length) return undefined
  const texts = Object.entries(headers).flatMap(([name, value]) =>
    typeof value === 'string' ? [[name, value] as const] : [],
  )
  return {
    apiKeySha256,
    headers: Object.fromEntries(texts),
    parts: known,
    end,
    lastIsBroken,
    ...(typeof detail === 'string' && { detail }),
  }
}

function isPart(given: unknown): given is ShadowPart {
  if (!isRecord(given)) return false
  const { name, isFile, bytes, sha256, value } = given
  return (
    typeof name === 'string' &&
    typeof isFile === 'boolean' &&
    typeof bytes === 'number' &&
    (sha256 === undefined || typeof sha256 === 'string') &&
    (value === undefined || typeof value === 'string')
  )
}

function isRecord(given: unknown): given is Readonly<Record<string, unknown>> {
  return typeof given === 'object' && given !== null && !Array.isArray(given)
}
