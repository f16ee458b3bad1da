import type { IncomingMessage, ServerResponse } from 'node:http'

import type { Backend } from './backend.ts'
import type { Outcome } from './failure.ts'
import type { MesWrite } from './partner-routes.ts'
import type { HeaderMap } from './request-prelude.ts'
import type { Route } from './route.ts'
import type { RequestTrace } from './trace-of-request.ts'

/** Looks at an exchange that passes by. Nothing here may throw, change what it is given, or take time. */
export interface ExchangeWatch {
  requestBytes?(chunk: Buffer): void
  /** All of the request is here. */
  requestEnd?(): void
  answerHead(answer: IncomingMessage): void
  answerBytes(chunk: Buffer): void
  over(outcome: Outcome): void
}

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
  trace: RequestTrace
  /** The system that it is passed on to. */
  backend: Backend
  /** Of a partner's call that changes something at the MES, where partners may go elsewhere. */
  mesWrite: MesWrite | undefined
  watch: ExchangeWatch | undefined
}
