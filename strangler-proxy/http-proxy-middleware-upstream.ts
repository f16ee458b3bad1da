import type { Agent, IncomingMessage } from 'node:http'

import { createProxyMiddleware } from 'http-proxy-middleware'
import type { Plugin } from 'http-proxy-middleware'

import type { AttemptObserver, Upstream } from './upstream.ts'

interface Attempt {
  readonly agent: Agent
  readonly observer: AttemptObserver
}

/** http-proxy-middleware as a byte pump and nothing else; README.md lists what is not used of it, and why. */
export function httpProxyMiddlewareUpstream(origin: string): Upstream {
  const attempts = new WeakMap<IncomingMessage, Attempt>()

  const observerOf = (request: IncomingMessage | undefined): AttemptObserver | undefined =>
    request === undefined ? undefined : attempts.get(request)?.observer

  const observe: Plugin = (engine) => {
    // The stock plugins are ejected, and `on` with them: without this listener one refused connection ends the process.
    engine.on('error', (error, request) => observerOf(request)?.onError(error))
    engine.on('econnreset', (error, request) => observerOf(request)?.onError(error))
    engine.on('proxyReq', (attempt, request) => observerOf(request)?.onAttempt(attempt))
    engine.on('proxyRes', (answer, request) => observerOf(request)?.onAnswer(answer))
  }

  const pump = createProxyMiddleware({
    ejectPlugins: true,
    plugins: [observe],
    changeOrigin: false,
    // The options are a copy for this request.
    router: (request, _response, options) => {
      const attempt = attempts.get(request)
      if (attempt === undefined) throw new Error('a request came to the engine past its door')
      options.agent = attempt.agent
      return origin
    },
  })

  return {
    send(request, response, agent, observer) {
      attempts.set(request, { agent, observer })
      const failed = (error: unknown): void => {
        if (error !== undefined) observer.onError(error)
      }
      pump(request, response, failed).catch(failed)
    },
  }
}
