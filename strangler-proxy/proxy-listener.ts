import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { performance } from 'node:perf_hooks'
import type { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'

import { service } from '../runtime/lifecycle.ts'
import type { Service } from '../runtime/lifecycle.ts'
import type { Log } from '../runtime/log.ts'
import type { Exchange } from './exchange.ts'
import { failureKinds } from './failure.ts'
import type { Outcome } from './failure.ts'
import type { Limits } from './limits.ts'
import { listeningPort } from './listening-port.ts'
import { requestPasses } from './passes.ts'
import { answerProblem, answerProblemOnSocket } from './problem-answer.ts'
import { Relay } from './relay.ts'
import type { RelayEnd } from './relay.ts'
import { isSafe } from './route.ts'
import type { RouteClass } from './route.ts'
import { Slots } from './slots.ts'
import { newTraceId } from './trace-of-request.ts'
import { UpstreamAgent } from './upstream-agent.ts'
import type { Upstream } from './upstream.ts'

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
  readonly upstream: Upstream
  readonly limits: Limits
  readonly trustedProxies: ReadonlySet<string>
  readonly log: Log
  /** Every request that went to the upstream, once it is over. Must not block. */
  onPassed(passed: PassedRequest): void
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
  readonly #slots: Record<RouteClass, Slots>
  readonly #reusing = new UpstreamAgent(true)
  readonly #fresh = new UpstreamAgent(false)
  #draining = false
  #lastRequestAt = 0

  constructor(options: ProxyListenerOptions) {
    this.#options = options
    this.#passes = requestPasses(options.trustedProxies)
    const { places } = options.limits
    this.#slots = {
      page: new Slots(places.page.limit, places.page.waiting),
      write: new Slots(places.write.limit, places.write.waiting),
      upload: new Slots(places.upload.limit, places.upload.waiting),
      stream: new Slots(places.stream.limit, places.stream.waiting),
    }
    // A long upload is no slow attack here: a stalled body is the idle timer's.
    this.#server = createServer({ requestTimeout: 0, shouldUpgradeCallback: isWebSocket })
    this.#server.on('request', (request, response) => this.#serve(request, response, false))
    this.#server.on('checkContinue', (request, response) => this.#serve(request, response, true))
    this.#server.on('upgrade', (_request, socket) => this.#refuseOnSocket(socket))
    this.#server.on('connect', (_request, socket) => this.#refuseOnSocket(socket))
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
    for (const [name, { taken, waiting }] of Object.entries(this.#slots))
      places[name] = { taken, waiting }
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
      traceId: newTraceId(),
    }
    for (const pass of this.#passes) {
      const refusal = pass.run(exchange)
      if (refusal === undefined) continue
      this.#count(refusal)
      answerProblem(request, response, refusal, exchange.traceId, this.#draining)
      return
    }
    this.#pump(exchange)
  }

  #pump(exchange: Exchange): void {
    const { routeClass } = exchange.route
    const reuses = isSafe(exchange.request.method ?? '') && routeClass === 'page'
    const relay = new Relay(
      exchange,
      {
        upstream: this.#options.upstream,
        slots: this.#slots[routeClass],
        agent: reuses ? this.#reusing : this.#fresh,
        freshAgent: this.#fresh,
        limits: this.#options.limits,
        isDraining: () => this.#draining,
      },
      (end) => {
        this.#relays.delete(relay)
        this.#count(end.outcome)
        this.#options.onPassed({ exchange, end, leftAt: performance.now() })
      },
    )
    this.#relays.add(relay)
    relay.start()
  }

  #refuseOnSocket(socket: Duplex): void {
    this.#count('no_upgrade_route')
    answerProblemOnSocket(socket, 'no_upgrade_route', newTraceId())
  }

  #count(outcome: Outcome): void {
    this.#outcomes[outcome] = (this.#outcomes[outcome] ?? 0) + 1
    if (outcome !== 'passed' && failureKinds[outcome].side !== 'client') {
      this.#options.log.warn('request_failed', { listener: this.#options.name, outcome })
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
    this.#reusing.destroy()
    this.#fresh.destroy()
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
