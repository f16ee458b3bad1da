import { randomUUID } from 'node:crypto'

import { Router, type NextFunction, type Request, type Response } from 'express'
import type { Pool } from 'pg'

import { cutUnreadRequest, refusalOf } from '../http-application.ts'
import type { Log } from '../log.ts'
import type { ModelStore } from '../model-store.ts'
import { isOrderStatus } from '../order-status.ts'
import { pageNumber, pagingOf } from '../paging.ts'
import { Refusal } from '../refusal.ts'
import { isUuid } from '../uuid.ts'
import type { MesOrder } from './mes-order.ts'
import type { OrdersInWork } from './orders-in-work.ts'
import { readPartnerSubmission } from './partner-submission.ts'

export type PartnerParts = {
  readonly pool: Pool
  readonly store: ModelStore
  readonly orders: OrdersInWork
  readonly orderStored: () => void
  /** Partner names by API key. */
  readonly partners: ReadonlyMap<string, string>
  readonly log: Log
}

const pageSize = 50

/** The partner API: in the process that calculates prices, and without any memory of what came before. */
export function partnerRoutes(parts: PartnerParts): Router {
  const { pool, store, orders, orderStored, partners, log } = parts
  const router = Router()

  const partnerOf = (request: Request): string => {
    const partner = partners.get(request.get('x-api-key') ?? '')
    if (partner === undefined) throw new Refusal(401, 'unauthorized', 'unknown API key')
    return partner
  }

  router.post('/orders', async (request, response) => {
    const partner = partnerOf(request)
    // A request destroyed with the iterator could not be answered any more.
    const body = request.iterator({ destroyOnReturn: false })
    const submission = await readPartnerSubmission(body, request.headers, store)
    const order = await orders.takePartnerOrder({
      order_id: randomUUID(),
      source: 'partner',
      external_id: submission.externalId,
      partner,
      client_id: null,
      customer_tier: null,
      model_key: submission.model.key,
      model_sha256: submission.model.sha256,
      model_bytes: submission.model.bytes,
      material: submission.material,
      quantity: submission.quantity,
      comment: submission.comment,
      redelivered: false,
    })
    if (!order) throw new Refusal(503, 'not_stored', 'the order was not stored, try again')
    orderStored()
    const { order_id: id, external_id: externalId, status } = order
    response.status(201).json({ id, external_id: externalId, status })
  })

  router.get('/orders/:id', async (request, response) => {
    const partner = partnerOf(request)
    const { id } = request.params
    if (!isUuid(id)) throw notFound()
    const { rows } = await pool.query<MesOrder>(
      'SELECT * FROM orders WHERE order_id = $1 AND partner = $2 ORDER BY id LIMIT 1',
      [id, partner],
    )
    if (!rows[0]) throw notFound()
    response.json(asPartnerSees(rows[0]))
  })

  router.get('/orders', async (request, response) => {
    const partner = partnerOf(request)
    const page = pageNumber(request.query['page'])
    if (page === undefined) throw new Refusal(400, 'invalid_field', 'page must be a number from 1')
    const status = request.query['status'] || null
    if (status !== null && !isOrderStatus(status)) {
      throw new Refusal(400, 'invalid_field', 'status is unknown')
    }
    const counted = await pool.query<{ total: number }>(
      'SELECT count(*) AS total FROM orders WHERE partner = $1 AND ($2::text IS NULL OR status = $2)',
      [partner, status],
    )
    const { rows } = await pool.query<MesOrder>(
      `SELECT * FROM orders WHERE partner = $1 AND ($2::text IS NULL OR status = $2)
       ORDER BY id DESC LIMIT $3 OFFSET $4`,
      [partner, status, pageSize, (page - 1) * pageSize],
    )
    const paging = pagingOf(page, counted.rows[0]?.total ?? 0, pageSize)
    response.json({ orders: rows.map(asPartnerSees), ...paging })
  })

  router.use(() => {
    throw new Refusal(404, 'not_found', 'not found')
  })
  return errorsInWords(router, log)
}

/** Partners know the old form of an error: one text. */
function errorsInWords(router: Router, log: Log): Router {
  router.use((error: unknown, request: Request, response: Response, _next: NextFunction) => {
    const refusal = refusalOf(error)
    if (refusal.status >= 500) log('partner_request_failed', { reason: String(error) })
    if (response.headersSent || response.destroyed) {
      response.destroy()
      return
    }
    const status = refusal.status === 422 ? 400 : refusal.status
    response.status(status).json({ error: refusal.message })
    cutUnreadRequest(request)
  })
  return router
}

function asPartnerSees(order: MesOrder) {
  const { order_id: id, external_id: externalId, status, material, quantity, comment } = order
  const { price, currency, received_at: createdAt, updated_at: updatedAt } = order
  return {
    id,
    external_id: externalId,
    status,
    material,
    quantity,
    comment,
    price,
    currency,
    created_at: createdAt,
    updated_at: updatedAt,
  }
}

function notFound(): Refusal {
  return new Refusal(404, 'order_not_found', 'there is no such order')
}
