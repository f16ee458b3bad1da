import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'

import {
  acceptedBody,
  externalIdKey,
  idempotencyKey,
  requestHash,
} from '../contracts/partner-order.ts'
import { failpoint } from '../runtime/failpoint.ts'
import type { Log } from '../runtime/log.ts'
import type { Pool } from '../runtime/postgres.ts'
import type { AcceptOrders, OrderRequest } from './accept-orders.ts'
import { forwardToMes } from './forward-to-mes.ts'
import type { ModelStore } from './model-store.ts'
import { finishForward, giveUpForward } from './orders.ts'
import { type Partner, unauthorized } from './partners.ts'
import type { Submission } from './read-submission.ts'
import { Refusal, unavailable } from './refusal.ts'

export interface SubmitParts {
  readonly pool: Pool
  readonly store: ModelStore
  readonly accepting: Pick<AcceptOrders, 'accept'>
  readonly mes: { readonly origin: string; readonly answerWithinMs: number }
  /** So long an order waits for its partner's way to be settled, before it is sent away. */
  readonly movingWaitMs: number
  readonly log: Log
}

export interface SubmitCall {
  readonly partner: Pick<Partner, 'id' | 'keySha256'>
  readonly key: string | undefined
  /** As the partner gave it; needed where the MES is asked. */
  readonly apiKey: string
  readonly traceparent: string | undefined
  readonly status: 201 | 202
}

export interface SubmitAnswer {
  readonly status: number
  readonly body: Buffer
  readonly contentType: string
  /** Of an order that was accepted, now or before. */
  readonly orderId: string | undefined
  readonly replayed: boolean
}

const json = 'application/json; charset=utf-8'
const movingPollMs = 100

/**
 * One order, from its parts to its answer.
 * @throws Refusal
 */
export async function submitOrder(
  parts: SubmitParts,
  call: SubmitCall,
  submission: Submission,
): Promise<SubmitAnswer> {
  const { externalId, model } = submission
  const orderId = randomUUID()
  const request: OrderRequest = {
    partner: call.partner.id,
    apiKeySha256: call.partner.keySha256,
    submission,
    keys: [
      externalIdKey(externalId),
      ...(call.key === undefined ? [] : [idempotencyKey(call.key)]),
    ],
    sha256: requestHash({ ...submission, modelSha256: model.sha256 }),
    orderId,
    status: call.status,
    body: acceptedBody(orderId, externalId),
  }
  const until = performance.now() + parts.movingWaitMs
  for (;;) {
    const askedAt = performance.now()
    const decided = await parts.accepting.accept(request)
    switch (decided.outcome) {
      case 'accepted':
      case 'replayed':
        return {
          status: decided.status,
          body: decided.body,
          contentType: json,
          orderId: decided.orderId,
          replayed: decided.outcome === 'replayed',
        }
      case 'unauthorized':
        throw unauthorized()
      case 'differs':
        throw new Refusal(
          'request_differs',
          'an order with this external_id or Idempotency-Key was submitted with another content',
        )
      case 'running':
        throw new Refusal('request_running', 'the same order is being submitted, try again', {
          retryAfter: 1,
        })
      case 'moving':
      case 'elsewhere':
        // A proxy that sent it here by an older route knows better when it comes again.
        if (decided.outcome === 'elsewhere' || performance.now() > until)
          throw new Refusal('partner_moving', 'the order was not taken, try again', {
            retryAfter: 1,
          })
        await pause(movingPollMs)
        break
      case 'forward':
        return forward(parts, call, request, { ...decided, askedAt })
    }
  }
}

/** The MES decides about the order, and what it answers is the answer. */
async function forward(
  parts: SubmitParts,
  call: SubmitCall,
  request: OrderRequest,
  decided: {
    readonly pathEpoch: number
    readonly pathReason: unknown
    /** performance.now() before the keys were taken. */
    readonly askedAt: number
  },
): Promise<SubmitAnswer> {
  const { pool, store, mes, log } = parts
  const takenAt = performance.now()
  failpoint('intake.forwarding')
  // Whoever stood still in between may have lost the keys to the same request, sent again.
  if (performance.now() - decided.askedAt > mes.answerWithinMs) {
    log.warn('forward_too_late', { partner: call.partner.id })
    throw unavailable('the order was not taken, try again', 'the intake stood still')
  }
  const forwarded = await forwardToMes({ ...mes, store }, request.submission, {
    'x-api-key': call.apiKey,
    ...(call.traceparent !== undefined && { traceparent: call.traceparent }),
  })
  failpoint('intake.forwarded')
  if (forwarded.outcome === 'not_sent') {
    log.warn('mes_unreachable', { reason: forwarded.reason })
    await giveUpForward(pool, request, performance.now() - takenAt)
    throw unavailable('the order was not taken, try again', forwarded.reason)
  }
  if (forwarded.outcome === 'unknown') {
    // The keys stay taken: evidence settles them, and until then a retry is told to wait.
    log.error('forward_unknown', { partner: call.partner.id, reason: forwarded.reason })
    throw new Refusal(
      'outcome_unknown',
      'the answer of the MES was lost: it may have made the order; send the same request again to know',
    )
  }
  const { answer } = forwarded
  if (answer.orderId === undefined) await giveUpForward(pool, request, performance.now() - takenAt)
  else await finishForward(pool, request, decided, { ...answer, orderId: answer.orderId })
  return {
    status: answer.status,
    body: answer.body,
    contentType: answer.contentType,
    orderId: answer.orderId,
    replayed: false,
  }
}
