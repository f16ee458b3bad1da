import { createHash, randomBytes } from 'node:crypto'

const pattern = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/

export interface TraceContext {
  readonly traceId: string
  readonly spanId: string
  readonly sampled: boolean
}

/** W3C Trace Context, level 1 (https://www.w3.org/TR/trace-context/); undefined when the header is not a valid version-00 value. */
export function parseTraceparent(header: string | undefined): TraceContext | undefined {
  const match = header === undefined ? null : pattern.exec(header)
  if (match === null || /^0+$/.test(match[1]!) || /^0+$/.test(match[2]!)) return undefined
  return {
    traceId: match[1]!,
    spanId: match[2]!,
    sampled: (Number.parseInt(match[3]!, 16) & 1) === 1,
  }
}

export function formatTraceparent(context: TraceContext): string {
  return `00-${context.traceId}-${context.spanId}-${context.sampled ? '01' : '00'}`
}

export function newSpanId(): string {
  return randomBytes(8).toString('hex')
}

/**
 * The trace of an order whose submit brought none. It is derived from the order's id (a UUID is its own trace id), so that
 * seams between which no header can travel (the Shop's database, CRM's queue) still write into one trace.
 */
export function traceIdOfOrder(orderId: string): string {
  const uuid = orderId.replaceAll('-', '').toLowerCase()
  if (/^[0-9a-f]{32}$/.test(uuid) && !/^0+$/.test(uuid)) return uuid
  return createHash('sha256').update(orderId, 'utf8').digest('hex').slice(0, 32)
}
