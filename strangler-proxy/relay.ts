import type { ClientRequest, IncomingMessage } from 'node:http'

import { answerPrelude } from './answer-prelude.ts'
import type { Exchange } from './exchange.ts'
import { abortIn, upstreamFailure } from './failure.ts'
import type { FailureCode, Outcome, Stage } from './failure.ts'
import type { Limits } from './limits.ts'
import { lingerAfterAnswer } from './linger-after-answer.ts'
import { answerProblem } from './problem-answer.ts'
import { hasBody } from './request-prelude.ts'
import { isSafe } from './route.ts'
import type { Slots } from './slots.ts'
import { StageTimer } from './stage-timer.ts'
import type { UpstreamAgent } from './upstream-agent.ts'
import type { AttemptObserver, Upstream } from './upstream.ts'

/** Writing these sends the head. flushHeaders would send it as UTF-8, and every byte above 0x7f would become two. */
const noBytes = Buffer.alloc(0)

export interface RelayParts {
  readonly upstream: Upstream
  readonly slots: Slots
  readonly agent: UpstreamAgent
  /** Never reuses a connection. */
  readonly freshAgent: UpstreamAgent
  readonly limits: Limits
  isDraining(): boolean
}

export interface RelayEnd {
  readonly outcome: Outcome
  /** As the client saw it; 499 = it was gone before. */
  readonly status: number
  readonly bytesIn: number
  readonly bytesOut: number
}

/** The pump pass of one exchange: a place, a connection, the request, the answer. It ends exactly once, however it ends. */
export class Relay implements AttemptObserver {
  readonly #exchange: Exchange
  readonly #parts: RelayParts
  readonly #ended: (end: RelayEnd) => void
  readonly #timer = new StageTimer()
  #stage: Stage = 'wait'
  #attempt: ClientRequest | undefined
  #answer: IncomingMessage | undefined
  #isEventStream = false
  #failure: FailureCode | undefined
  #closed = false
  #retried = false
  #holdsPlace = false
  #bytesIn = 0
  #bytesOut = 0

  constructor(exchange: Exchange, parts: RelayParts, ended: (end: RelayEnd) => void) {
    this.#exchange = exchange
    this.#parts = parts
    this.#ended = ended
  }

  get isEventStream(): boolean {
    return this.#isEventStream
  }

  start(): void {
    const { limits, slots } = this.#parts
    this.#exchange.response.once('close', () => this.#end())
    this.#timer.after(limits.waitMs, () => this.fail('overloaded'))
    this.#holdsPlace = true
    if (!slots.enter(this.#begin)) {
      this.#holdsPlace = false
      this.fail('overloaded')
    }
  }

  /** Ends the exchange for this reason, with an answer where one is still possible. */
  fail(code: FailureCode): void {
    if (this.#failure !== undefined || this.#closed) return
    this.#failure = code
    this.#timer.clear()
    this.#leavePlace()
    this.#attempt?.destroy()
    const { request, response, trace } = this.#exchange
    answerProblem(request, response, code, trace.context.traceId, this.#parts.isDraining())
  }

  onAttempt(attempt: ClientRequest): void {
    if (this.#isOver()) {
      // The client left while the engine was preparing.
      attempt.destroy()
      return
    }
    this.#attempt = attempt
    const { request, mesWrite, watch } = this.#exchange
    if (!this.#retried) {
      // The engine pipes in this same turn, so a second listener loses no byte; it is called first.
      request.on('data', (chunk: Buffer) => {
        this.#bytesIn += chunk.length
        watch?.requestBytes?.(chunk)
        if (mesWrite?.mayGoOn() === false) this.fail('partner_route_lapsed')
      })
      if (watch?.requestEnd !== undefined) request.once('end', () => watch.requestEnd?.())
    }
    // A switch of protocols that nobody asked for: Node drops the connection and tells nobody.
    attempt.once('upgrade', (_answer, socket) => {
      socket.destroy()
      this.fail('malformed_answer')
    })
    // The head leaves now: the upstream may refuse it before the client sends a byte of the body.
    if (hasBody(this.#exchange.headers)) attempt.write(noBytes)
    attempt.once('finish', () => this.#requestSent(attempt))
    const { socket } = attempt
    if (socket === null || !socket.connecting) {
      this.#connected()
      return
    }
    this.#stage = 'connect'
    this.#timer.after(this.#parts.limits.connectMs, () => this.fail('connect_timeout'))
    socket.once('connect', () => {
      if (!this.#isOver()) this.#connected()
    })
  }

  onAnswer(answer: IncomingMessage): void {
    if (this.#isOver()) return
    const head = answerPrelude(answer.rawHeaders)
    if (head === undefined) {
      this.fail('malformed_answer')
      return
    }
    const { request, response, watch } = this.#exchange
    const closes = !request.complete || this.#parts.isDraining()
    response.sendDate = false
    try {
      // With the head written here the engine leaves it alone, and the bytes are the upstream's.
      response.writeHead(
        answer.statusCode ?? 0,
        answer.statusMessage ?? '',
        closes ? [...head.headers, 'Connection', 'close'] : head.headers,
      )
    } catch {
      this.fail('malformed_answer')
      return
    }
    this.#answer = answer
    this.#stage = 'answer_body'
    this.#isEventStream = head.isEventStream
    if (!request.complete) lingerAfterAnswer(request)
    this.#sendHeadWithFirstBytes()
    watch?.answerHead(answer)
    answer.on('data', (chunk: Buffer) => {
      this.#bytesOut += chunk.length
      watch?.answerBytes(chunk)
    })
    answer.once('close', () => {
      if (!answer.complete) this.fail('answer_cut')
    })
    if (head.isEventStream) this.#timer.clear()
    else this.#watchIdle(() => 'answer_timeout')
  }

  onError(error: unknown): void {
    const { request, response } = this.#exchange
    if (this.#isOver() || response.destroyed || request.socket.destroyed) return
    if (this.#answer !== undefined) {
      // A whole answer stands, whatever the connection does next.
      if (!this.#answer.complete) this.fail('answer_cut')
      return
    }
    const code = errorCodeOf(error)
    if (this.#mayRetry(code)) {
      this.#retried = true
      this.#stage = 'connect'
      this.#send(this.#parts.freshAgent)
      return
    }
    this.fail(upstreamFailure(this.#stage, code))
  }

  readonly #begin = (): void => {
    this.#stage = 'connect'
    this.#timer.clear()
    if (this.#exchange.expectsContinue) this.#exchange.response.writeContinue()
    this.#send(this.#parts.agent)
  }

  #send(agent: UpstreamAgent): void {
    const { request, response } = this.#exchange
    this.#parts.upstream.send(request, response, agent, this)
  }

  #connected(): void {
    if (this.#stage === 'answer_head') return
    this.#stage = 'request_body'
    this.#watchIdle(() =>
      this.#attempt?.writableNeedDrain === true ? 'body_timeout' : 'client_too_slow',
    )
    if (this.#attempt?.writableFinished === true) this.#requestSent(this.#attempt)
  }

  #requestSent(attempt: ClientRequest): void {
    if (this.#isOver() || attempt !== this.#attempt || this.#answer !== undefined) return
    this.#stage = 'answer_head'
    this.#timer.after(this.#parts.limits.headMs, () => this.fail('head_timeout'))
  }

  #watchIdle(reason: () => FailureCode): void {
    this.#timer.whenIdle(
      this.#parts.limits.idleMs,
      () => this.#bytesIn + this.#bytesOut,
      () => this.fail(reason()),
    )
  }

  /** The head leaves now, as it does without a proxy, and in one packet with what is there of the body. */
  #sendHeadWithFirstBytes(): void {
    const { response } = this.#exchange
    const { socket } = response
    socket?.cork()
    response.write(noBytes)
    setImmediate(() => socket?.uncork())
  }

  /** A connection that was idle may have been closed by the other side as the request left: nobody acted on it. */
  #mayRetry(code: string): boolean {
    return (
      isSafe(this.#exchange.request.method ?? '') &&
      this.#attempt?.reusedSocket === true &&
      !this.#retried &&
      (this.#stage === 'request_body' || this.#stage === 'answer_head') &&
      (code === 'ECONNRESET' || code === 'EPIPE')
    )
  }

  #isOver(): boolean {
    return this.#failure !== undefined || this.#closed
  }

  #leavePlace(): void {
    if (!this.#holdsPlace) return
    this.#holdsPlace = false
    this.#parts.slots.leave(this.#begin)
  }

  #end(): void {
    if (this.#closed) return
    const aborted = this.#exchange.response.writableFinished ? undefined : abortIn[this.#stage]
    this.#closed = true
    this.#timer.clear()
    this.#leavePlace()
    if (this.#answer?.complete !== true) this.#attempt?.destroy()
    const { headersSent, statusCode } = this.#exchange.response
    this.#ended({
      outcome: this.#failure ?? aborted ?? 'passed',
      status: headersSent ? statusCode : 499,
      bytesIn: this.#bytesIn,
      bytesOut: this.#bytesOut,
    })
  }
}

function errorCodeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}
