import { STATUS_CODES } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'

import { failureKinds } from './failure.ts'
import type { FailureCode } from './failure.ts'
import { lingerAfterAnswer } from './linger-after-answer.ts'

/** RFC 9457. Nothing of the request is repeated in it. */
function problemBody(code: FailureCode, traceId: string): Buffer {
  const kind = failureKinds[code]
  return Buffer.from(
    JSON.stringify({
      type: `urn:strangler-proxy:${code}`,
      title: kind.says,
      status: kind.status,
      order_state: kind.orderState,
      trace_id: traceId,
    }),
  )
}

function problemHeaders(code: FailureCode, body: Buffer): Record<string, string | number> {
  return {
    'Content-Type': 'application/problem+json',
    'Content-Length': body.length,
    'Cache-Control': 'no-store',
    ...(failureKinds[code].status === 503 && { 'Retry-After': 1 }),
  }
}

/** An answer of our own in place of the upstream's. One whose head is out already is cut, never ended as if it were whole. */
export function answerProblem(
  request: IncomingMessage,
  response: ServerResponse,
  code: FailureCode,
  traceId: string,
  lastOfConnection: boolean,
): void {
  if (response.headersSent || failureKinds[code].status === 0) {
    response.destroy()
    return
  }
  const body = problemBody(code, traceId)
  const unread = !request.complete
  if (unread) lingerAfterAnswer(request)
  const { status } = failureKinds[code]
  // An answer of the upstream's that could not be relayed may have left its words behind.
  response.sendDate = true
  response.writeHead(status, STATUS_CODES[status] ?? '', {
    ...problemHeaders(code, body),
    ...((unread || lastOfConnection) && { Connection: 'close' }),
  })
  response.end(body)
}

/** The same on a connection that Node handed over whole: an upgrade or a tunnel. */
export function answerProblemOnSocket(socket: Duplex, code: FailureCode, traceId: string): void {
  const { status } = failureKinds[code]
  const body = problemBody(code, traceId)
  const headers = { ...problemHeaders(code, body), Connection: 'close' }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  socket.on('error', () => socket.destroy())
  socket.end(
    Buffer.concat([
      Buffer.from(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join('')}\r\n`, 'latin1'),
      body,
    ]),
    () => socket.destroy(),
  )
}
