import type { FailureCode } from './failure.ts'
import { addForwarded, claimsClientAddress } from './forwarded-headers.ts'
import type { Peer } from './forwarded-headers.ts'
import { hopByHopNames } from './hop-by-hop.ts'

/** By lower-case name, in the order of arrival. A name that came twice has both values, never joined. */
export type HeaderMap = Record<string, string | string[]>

/** Node keeps the first or joins them silently; a second one is an attempt to be read differently by the system behind. */
const singletons = new Set(['host', 'content-type', 'authorization', 'idempotency-key'])

const bodyless = new Set(['GET', 'HEAD', 'TRACE'])

/**
 * The headers that are passed on, made from what really arrived. Runs before any header of ours is added, so that a client's
 * `Connection: <our header>` can't strip it.
 */
export function requestPrelude(
  method: string,
  rawHeaders: readonly string[],
  peer: Peer,
): HeaderMap | FailureCode {
  const droppedHere = hopByHopNames(rawHeaders)
  // No prototype: `__proto__` is a legal header name.
  const headers: HeaderMap = Object.create(null)
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!.toLowerCase()
    const value = rawHeaders[at + 1]!
    if (isDropped(name, value, droppedHere, peer)) continue
    const before = headers[name]
    if (before === undefined) headers[name] = value
    else if (singletons.has(name)) return 'duplicate_header'
    else headers[name] = [before, value].flat()
  }
  if (bodyless.has(method) && hasBody(headers)) return 'body_not_allowed'
  addForwarded(headers, peer)
  return withDispositionBeforeLength(headers)
}

function isDropped(
  name: string,
  value: string,
  droppedHere: ReadonlySet<string>,
  peer: Peer,
): boolean {
  // Frames the body for Node on both sides. Without it a DELETE with a chunked body would leave with length 0.
  if (name === 'transfer-encoding') return false
  if (name === 'te') return value.trim().toLowerCase() !== 'trailers'
  return (
    droppedHere.has(name) ||
    // Answered by us, before the body. With it the engine skips its hook.
    name === 'expect' ||
    name.startsWith('x-strangler-') ||
    claimsClientAddress(name, peer)
  )
}

export function hasBody(headers: HeaderMap): boolean {
  const length = headers['content-length']
  return (
    headers['transfer-encoding'] !== undefined || (length !== undefined && Number(length) !== 0)
  )
}

/** After Content-Length Node re-encodes Content-Disposition: raw UTF-8 breaks, and U+010D U+010A becomes CR LF. */
function withDispositionBeforeLength(headers: HeaderMap): HeaderMap {
  const disposition = headers['content-disposition']
  if (disposition === undefined || headers['content-length'] === undefined) return headers
  const ordered: HeaderMap = Object.create(null)
  for (const [name, value] of Object.entries(headers)) {
    if (name === 'content-length') ordered['content-disposition'] = disposition
    ordered[name] = value
  }
  return ordered
}
