import type { IncomingMessage, ServerResponse } from 'node:http'

import type { HeaderMap } from './request-prelude.ts'
import type { Route } from './route.ts'

/** One request and its answer, from the complete head to the last byte. The passes fill it in, in their order. */
export interface Exchange {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** performance.now() */
  readonly enteredAt: number
  /** The client waits for `100 Continue` before it sends the body. */
  readonly expectsContinue: boolean
  /** What is passed on, from the prelude on. */
  headers: HeaderMap
  route: Route
  traceId: string
}
