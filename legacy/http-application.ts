import type { IncomingMessage } from 'node:http'

import express, { type ErrorRequestHandler, type Express, type Response } from 'express'

import { isDatabaseUnavailable } from './database-failure.ts'
import type { Log } from './log.ts'
import { Refusal } from './refusal.ts'

export function newApplication(): Express {
  const app = express()
  app.disable('x-powered-by')
  app.disable('etag')
  app.set('query parser', 'simple')
  app.get('/health', (_request, response) => {
    response.json({ status: 'ok' })
  })
  return app
}

export const jsonBody = express.json({ limit: '64kb', type: () => true })

/** A browser's form: small, flat. */
export const formBody = express.urlencoded({ limit: '8kb', extended: false })

/** Maps whatever a handler or a body parser threw to the refusal the client gets. */
export function refusalOf(error: unknown): Refusal {
  if (error instanceof Refusal) return error
  if (isDatabaseUnavailable(error)) {
    return new Refusal(503, 'database_unavailable', 'the database is away, try again')
  }
  if (error instanceof URIError) return new Refusal(404, 'not_found', 'no such address')
  const { type, status, code } = reportedBy(error)
  if (code === 'ECONNRESET' || code === 'ERR_STREAM_PREMATURE_CLOSE') {
    return new Refusal(400, 'request_cut', 'the request broke off')
  }
  if (type === 'entity.too.large')
    return new Refusal(413, 'body_too_large', 'the body is too large')
  if (status >= 400 && status < 500) {
    return type === 'entity.parse.failed'
      ? new Refusal(400, 'malformed_json', 'the body is not JSON')
      : new Refusal(status, 'malformed_request', 'the request cannot be read')
  }
  return new Refusal(500, 'internal_error', 'the service failed')
}

/** What the body parsers and Node put on their errors. */
function reportedBy(error: unknown): { type?: unknown; status: number; code?: unknown } {
  if (!(error instanceof Error)) return { status: 500 }
  return {
    status: 'status' in error && typeof error.status === 'number' ? error.status : 500,
    ...('type' in error ? { type: error.type } : {}),
    ...('code' in error ? { code: error.code } : {}),
  }
}

/** The last two handlers of every application: nothing found, and everything that was thrown. */
export function answerErrors(
  app: Express,
  log: Log,
  answer: (refusal: Refusal, path: string, response: Response) => void,
): void {
  app.use(() => {
    throw new Refusal(404, 'not_found', 'no such address')
  })
  const onError: ErrorRequestHandler = (error, request, response, _next) => {
    const refusal = refusalOf(error)
    if (refusal.status >= 500) {
      log('request_failed', { method: request.method, path: request.path, reason: String(error) })
    }
    if (response.headersSent || response.destroyed) {
      response.destroy()
      return
    }
    answer(refusal, request.path, response.status(refusal.status))
    cutUnreadRequest(request)
  }
  app.use(onError)
}

/** Answered without reading it all: the client gets a moment to see the answer, not the time to send the rest. */
export function cutUnreadRequest(request: IncomingMessage): void {
  if (request.complete) return
  setTimeout(() => {
    if (!request.complete) request.socket.destroy()
  }, 2000).unref()
}

export function answerJsonError(refusal: Refusal, response: Response): void {
  const { code, message, details } = refusal
  response.json({ error: { code, message, ...details } })
}
