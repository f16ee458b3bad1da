import type { RouteClass } from './route.ts'

export interface Limits {
  readonly connectMs: number
  /** From the last byte of the request to the head of the answer. */
  readonly headMs: number
  /** Without a byte in either direction, while a body is on its way. Event streams are exempt. */
  readonly idleMs: number
  /** For a place among the requests that are with the upstream. */
  readonly waitMs: number
  /** Readiness says no, and requests are still taken, until none has come for so long (5 s at most). */
  readonly drainNoticeMs: number
  /** After the notice: event streams end by the one, anything else by the other. With it they stay below the 20 s of a stop. */
  readonly drainStreamsMs: number
  readonly drainMs: number
  readonly places: Readonly<
    Record<RouteClass, { readonly limit: number; readonly waiting: number }>
  >
}

export const defaultLimits: Limits = {
  connectMs: 5000,
  headMs: 60_000,
  idleMs: 60_000,
  waitMs: 5000,
  drainNoticeMs: 0,
  drainStreamsMs: 2000,
  drainMs: 12_000,
  places: {
    page: { limit: 256, waiting: 1024 },
    write: { limit: 256, waiting: 1024 },
    upload: { limit: 64, waiting: 64 },
    stream: { limit: 4096, waiting: 0 },
  },
}
