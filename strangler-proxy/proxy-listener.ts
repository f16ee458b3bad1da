import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { performance } from 'node:perf_hooks'
import type { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'

import { service } from '../runtime/lifecycle.ts'
import type { Service } from '../runtime/lifecycle.ts'
import type { Log, LogFields } from '../runtime/log.ts'
import type { Backend } from './backend.ts'
import type { Exchange } from './exchange.ts'
import { failureKinds } from './failure.ts'
import type { FailureCode, Outcome } from './failure.ts'
import type { Limits } from './limits.ts'
import { listeningPort } from './listening-port.ts'
import type { PartnerSeam } from './partner-seam.ts'
import { requestPasses } from './passes.ts'
import { answerProblem, answerProblemOnSocket } from './problem-answer.ts'
import { Relay } from './relay.ts'
import type { RelayEnd } from './relay.ts'
import type { RouteClass } from './route.ts'
import { newTrace } from './trace-of-request.ts'

const longestNoticeMs = 5000

export interface PassedRequest {
  readonly exchange: Exchange
  readonly end: RelayEnd
  readonly leftAt: number
}

export interface ProxyListenerOptions {
  /** `shop`, `crm` or `mes`. */
  readonly name: string
  readonly host: string
  readonly port: number
  readonly backend: Backend
  /** Sends the calls of partners to either of two systems. */
  readonly partners?: PartnerSeam | undefined
  readonly limits: Limits
  readonly trustedProxies: ReadonlySet<string>
  readonly log: Log
  /** Spans are collected: each request passed on has one of ours. */
  readonly spansAreMade?: boolean
  /** Every request that goes to the upstream, before it does. Must not block. */
  onEntered?(exchange: Exchange): void
  /** Every request, however it ended; `pumped` is false where it was refused here. Must not block. */
  onEnded?(ended: EndedRequest): void
  /** Every request that went to the upstream, once it is over. Must not block. */
  onPassed(passed: PassedRequest): void
}

export interface EndedRequest {
  readonly method: string
  /** As the client saw it. */
  readonly status: number
  readonly outcome: Outcome
  /** undefined: it was refused before it went anywhere. */
  readonly pumped: { readonly routeClass: RouteClass; readonly ms: number } | undefined
}

export interface ListenerNumbers {
  readonly inFlight: number
  readonly eventStreams: number
  readonly outcomes: Readonly<Partial<Record<Outcome, number>>>
  readonly places: Readonly<Record<string, { taken: number; waiting: number }>>
}

/** One address of ours in front of one legacy system. */
export class ProxyListener implements Service {
  readonly #life: Service
  readonly #passes: ReturnType<typeof requestPasses>
  readonly #options: ProxyListenerOptions
  readonly #server: Server
  readonly #relays = new Set<Relay>()
  readonly #outcomes: Partial<Record<Outcome, number>> = {}
  readonly #backends: readonly Backend[]
  #draining = false
  #lastRequestAt = 0

  constructor(options: ProxyListenerOptions) {
    this.#options = options
    const { backend, partners, trustedProxies, spansAreMade } = options
    this.#backends = partners === undefined ? [backend] : [backend, partners.intake]
    this.#passes = requestPasses(trustedProxies, spansAreMade === true, partners)
    // A long upload is no slow attack here: a stalled body is the idle timer's.
    this.#server = createServer({ requestTimeout: 0, shouldUpgradeCallback: isWebSocket })
    this.#server.on('request', (request, response) => this.#serve(request, response, false))
    this.#server.on('checkContinue', (request, response) => this.#serve(request, response, true))
    this.#server.on('upgrade', (request, socket) => this.#refuseOnSocket(request, socket))
    this.#server.on('connect', (request, socket) => this.#refuseOnSocket(request, socket))
    this.#life = service({ start: () => this.#listen(), stop: () => this.#drain() })
  }

  start(): Promise<void> {
    return this.#life.start()
  }

  stop(): Promise<void> {
    return this.#life.stop()
  }

  port(): number {
    return listeningPort(this.#server)
  }

  numbers(): ListenerNumbers {
    const places: Record<string, { taken: number; waiting: number }> = {}
    for (const { slots } of this.#backends) {
      for (const [name, { taken, waiting }] of Object.entries(slots)) {
        const before = places[name] ?? { taken: 0, waiting: 0 }
        places[name] = { taken: before.taken + taken, waiting: before.waiting + waiting }
      }
    }
    const eventStreams = [...this.#relays].filter((relay) => relay.isEventStream).length
    return { inFlight: this.#relays.size, eventStreams, outcomes: { ...this.#outcomes }, places }
  }

  #serve(request: IncomingMessage, response: ServerResponse, expectsContinue: boolean): void {
    this.#lastRequestAt = performance.now()
    const exchange: Exchange = {
      request,
      response,
      enteredAt: this.#lastRequestAt,
      expectsContinue,
      route: { template: '/*', routeClass: 'page', orderId: undefined },
      headers: {},
      trace: newTrace(),
      backend: this.#options.backend,
      mesWrite: undefined,
      watch: undefined,
    }
    for (const pass of this.#passes) {
      const refusal = pass.run(exchange)
      if (refusal === undefined) continue
      this.#count(refusal, { traceId: exchange.trace.context.traceId })
      this.#refused(request.method, refusal)
      answerProblem(request, response, refusal, exchange.trace.context.traceId, this.#draining)
      return
    }
    this.#options.onEntered?.(exchange)
    this.#pump(exchange)
  }

  #pump(exchange: Exchange): void {
    const { backend } = exchange
    const { routeClass } = exchange.route
    const relay = new Relay(
      exchange,
      {
        upstream: backend.upstream,
        slots: backend.slots[routeClass],
        agent: backend.agentFor(exchange.request.method ?? '', routeClass),
        freshAgent: backend.freshAgent,
        limits: this.#options.limits,
        isDraining: () => this.#draining,
      },
      (end) => {
        this.#relays.delete(relay)
        exchange.mesWrite?.end(end.outcome)
        exchange.watch?.over(end.outcome)
        const { orderId } = exchange.route
        const { traceId } = exchange.trace.context
        this.#count(end.outcome, { traceId, ...(orderId !== undefined && { orderId }) })
        const leftAt = performance.now()
        this.#options.onEnded?.({
          method: exchange.request.method ?? '',
          status: end.status,
          outcome: end.outcome,
          pumped: { routeClass, ms: leftAt - exchange.enteredAt },
        })
        this.#options.onPassed({ exchange, end, leftAt })
      },
    )
    this.#relays.add(relay)
    relay.start()
  }

  #refuseOnSocket(request: IncomingMessage, socket: Duplex): void {
    const { traceId } = newTrace().context
    this.#count('no_upgrade_route', { traceId })
    this.#refused(request.method, 'no_upgrade_route')
    answerProblemOnSocket(socket, 'no_upgrade_route', traceId)
  }

  #refused(method: string | undefined, outcome: FailureCode): void {
    const { status } = failureKinds[outcome]
    this.#options.onEnded?.({ method: method ?? '', status, outcome, pumped: undefined })
  }

  #count(outcome: Outcome, about: LogFields): void {
    this.#outcomes[outcome] = (this.#outcomes[outcome] ?? 0) + 1
    if (outcome !== 'passed' && failureKinds[outcome].side !== 'client') {
      this.#options.log.warn('request_failed', { listener: this.#options.name, outcome, ...about })
    }
  }

  async #listen(): Promise<void> {
    const { host, port } = this.#options
    this.#draining = false
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(port, host, () => {
        this.#server.off('error', reject)
        resolve()
      })
    })
  }

  /** Every answer from here on closes its connection; what is open ends by itself or at its deadline. */
  async #drain(): Promise<void> {
    if (!this.#server.listening) return
    const { drainNoticeMs, drainStreamsMs, drainMs } = this.#options.limits
    this.#draining = true
    await this.#untilNoticed(drainNoticeMs)
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => resolve())
    })
    const sweep = setInterval(() => this.#server.closeIdleConnections(), 20)
    const endStreams = setTimeout(() => this.#cut((relay) => relay.isEventStream), drainStreamsMs)
    const endAll = setTimeout(() => {
      this.#cut(() => true)
      this.#server.closeAllConnections()
    }, drainMs)
    await closed
    clearInterval(sweep)
    clearTimeout(endStreams)
    clearTimeout(endAll)
    for (const backend of this.#backends) backend.closeConnections()
  }

  /** Whoever still sends has not noticed: each request begins the notice anew, within a limit. */
  async #untilNoticed(noticeMs: number): Promise<void> {
    const began = performance.now()
    const latest = began + longestNoticeMs
    for (;;) {
      const quietAt = Math.max(began, this.#lastRequestAt) + noticeMs
      const left = Math.min(quietAt, latest) - performance.now()
      if (left <= 0) return
      await sleep(left)
    }
  }

  #cut(which: (relay: Relay) => boolean): void {
    for (const relay of [...this.#relays].filter(which)) relay.fail('drained')
  }
}

function isWebSocket(request: IncomingMessage): boolean {
  return request.method === 'GET' && request.headers.upgrade?.trim().toLowerCase() === 'websocket'
}
