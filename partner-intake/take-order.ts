import type { IncomingMessage } from 'node:http'

import type { ErrorRequestHandler, Response } from 'express'

import { partnerProblems } from '../contracts/partner-problems.ts'
import { parseTraceparent } from '../contracts/trace-context.ts'
import type { Log } from '../runtime/log.ts'
import { checkIdempotencyKey } from './api-contract.ts'
import type { Partner } from './partners.ts'
import { checkLength, type Submission } from './read-submission.ts'
import { Refusal, refusalOf } from './refusal.ts'
import { type SubmitParts, submitOrder } from './submit-order.ts'

export const base = '/api/partner/v1'
// A client that gets an answer before it has sent everything has this long to see it.
const lingerMs = 2000

/** A header of the request, by its name in lower case. */
export type Head = (name: string) => string | undefined

/**
 * What is checked before the body is read.
 * @throws Refusal
 */
export function checkHead(partner: Partner, head: Head): { readonly key: string | undefined } {
  const key = keyOf(head, partner)
  checkLength(head('content-length'))
  return { key }
}

/**
 * One order, from its parts to its answer.
 * @throws Refusal
 */
export async function takeOrder(
  parts: SubmitParts,
  call: {
    readonly partner: Partner
    readonly head: Head
    readonly key: string | undefined
    readonly apiKey: string
  },
  submission: Submission,
  response: Response,
): Promise<void> {
  const { partner, head, key, apiKey } = call
  const wantsLater = /\brespond-async\b/iu.test(head('prefer') ?? '')
  const traceparent = head('traceparent')
  const answer = await submitOrder(
    parts,
    {
      partner,
      key,
      apiKey,
      traceparent: parseTraceparent(traceparent) === undefined ? undefined : traceparent,
      status: partner.mode === 'strict' && wantsLater ? 202 : 201,
    },
    submission,
  )
  // A refusal of the MES, in the form of a partner that does not know the MES's.
  if (answer.orderId === undefined && partner.mode === 'strict')
    throw new Refusal('invalid_field', reasonIn(answer.body))
  if (answer.replayed) response.set('Idempotent-Replay', 'true')
  if (answer.status === 202) response.set('Location', `${base}/orders/${answer.orderId}`)
  response.status(answer.status).set('Content-Type', answer.contentType).send(answer.body)
}

/** Quotes around a key do not count: the header is a structured field, and many send it plain. */
function keyOf(head: Head, { mode }: Partner): string | undefined {
  const given = head('idempotency-key')
  if (mode === 'strict') {
    if (given === undefined)
      throw new Refusal('idempotency_key_missing', 'an Idempotency-Key is required', {
        pointer: '#/parameters/Idempotency-Key',
      })
    checkIdempotencyKey(given)
  }
  if (given === undefined || given === '') return undefined
  return /^"(.*)"$/u.exec(given)?.[1] ?? given
}

function reasonIn(body: Buffer): string {
  try {
    const answer: unknown = JSON.parse(body.toString('utf8'))
    if (typeof answer === 'object' && answer !== null && 'error' in answer)
      return String(answer.error)
  } catch {
    // Whatever it was, it was a refusal.
  }
  return 'the order was refused'
}

/** Whatever was thrown, as the answer that its partner knows. */
export function answersRefusals(
  partnerOf: (response: Response) => Partner | undefined,
  log: Log,
): ErrorRequestHandler {
  return (error, request, response: Response, _next) => {
    const refusal = refusalOf(error)
    const { code, status, message: detail, pointer, retryAfter } = refusal
    if (status >= 500) log.error('request_failed', { code }, refusal.cause)
    if (response.headersSent || response.destroyed) {
      response.destroy()
      return
    }
    response.status(status)
    if (retryAfter !== undefined) response.set('Retry-After', String(retryAfter))
    if (partnerOf(response)?.mode === 'strict') {
      const traceId = parseTraceparent(request.get('traceparent'))?.traceId
      response.type('application/problem+json').send(
        JSON.stringify({
          type: `/docs#${code}`,
          title: partnerProblems[code].title,
          status,
          detail,
          code,
          ...(traceId !== undefined && { trace_id: traceId }),
          ...(pointer !== undefined && { errors: [{ pointer, detail }] }),
        }),
      )
    } else response.json({ error: detail })
    cutUnread(request)
  }
}

function cutUnread(request: IncomingMessage): void {
  if (request.complete) return
  setTimeout(() => {
    if (!request.complete) request.socket.destroy()
  }, lingerMs).unref()
}
