import express, { type Express, type Request, type Response } from 'express'

import { readMultipart } from '../contracts/multipart-reader.ts'
import { isPartnerOrderId } from '../contracts/partner-order.ts'
import { shadowHeader } from '../contracts/partner-shadow.ts'
import { checkListQuery, openapiText } from './api-contract.ts'
import { apiPage } from './api-page.ts'
import { findOrder, listOrders } from './orders.ts'
import type { Partner, Partners } from './partners.ts'
import { quarantine } from './quarantine.ts'
import type { Quotas } from './quotas.ts'
import { readBody } from './read-body.ts'
import { readSubmission } from './read-submission.ts'
import { Refusal } from './refusal.ts'
import type { SubmitParts } from './submit-order.ts'
import { answersRefusals, base, checkHead, takeOrder } from './take-order.ts'

export interface IntakeParts extends SubmitParts {
  readonly partners: Partners
  readonly quotas: Quotas
  /** A client that sends nothing of its order for so long is given up. */
  readonly bodyIdleMs: number
  onAnswered?(call: { readonly route: string; readonly status: number }): void
}

export function intakeApplication(parts: IntakeParts): Express {
  const { partners, quotas, pool, store, log } = parts
  const app = express()
  app.disable('x-powered-by')
  app.disable('etag')
  app.set('query parser', 'simple')
  app.get('/health', (_request, response) => {
    response.json({ status: 'ok' })
  })
  app.get('/openapi.yaml', (_request, response) => {
    response.type('application/yaml').send(openapiText)
  })
  app.get('/docs', (_request, response) => {
    response.type('html').send(apiPage())
  })

  const api = express.Router()
  const known = new WeakMap<Response, Partner>()
  const called = async (
    request: Request,
    response: Response,
    who: 'authenticate' | 'recognise' = 'authenticate',
  ): Promise<Partner> => {
    const partner = await partners[who](request.get('x-api-key'))
    known.set(response, partner)
    // A look of ours, beside the partner's own: no door lets the header in.
    if (request.method === 'GET' && request.get(shadowHeader) !== undefined) return partner
    try {
      quotas.spend(partner)
    } finally {
      if (partner.mode === 'strict') {
        const { limit, remaining, reset } = quotas.left(partner)
        response.set('RateLimit-Policy', `"burst";q=${limit};w=60`)
        response.set('RateLimit', `"burst";r=${remaining};t=${reset}`)
      }
    }
    return partner
  }
  api.use((request, response, next) => {
    response.once('close', () => {
      const route = String(request.route?.path ?? '/*')
      parts.onAnswered?.({ route, status: response.writableFinished ? response.statusCode : 499 })
    })
    next()
  })

  api.post('/orders', async (request, response) => {
    const partner = await called(request, response, 'recognise')
    const head = (name: string): string | undefined => request.get(name)
    const { key } = checkHead(partner, head)
    const leave = quotas.enterUpload(partner)
    try {
      const body = readBody(request, parts.bodyIdleMs)
      const form = readMultipart(body, head('content-type'))
      const submission = await readSubmission(form, ({ content }, longest) =>
        store.store(content, longest),
      )
      const apiKey = head('x-api-key') ?? ''
      await takeOrder(parts, { partner, head, key, apiKey }, submission, response)
    } finally {
      leave()
    }
  })

  api.get('/orders/:id', async (request, response) => {
    const partner = await called(request, response)
    const { id } = request.params
    const order = isPartnerOrderId(id) ? await findOrder(pool, partner.id, id) : undefined
    if (order === undefined) throw new Refusal('order_not_found', 'there is no such order')
    response.json(order)
  })

  api.get('/orders', async (request, response) => {
    const partner = await called(request, response)
    const { status, page } = checkListQuery(request.query)
    response.json(await listOrders(pool, partner.id, status, page))
  })

  api.use(() => {
    throw new Refusal('not_found', 'not found')
  })
  api.use(answersRefusals((response) => known.get(response), log))
  app.use(base, api)
  app.use(quarantine(parts))
  app.use((_request, response) => {
    response.status(404).json({ error: 'not found' })
  })
  return app
}
