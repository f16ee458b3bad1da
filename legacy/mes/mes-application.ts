import type { Express } from 'express'

import { answerErrors, answerJsonError, formBody, newApplication } from '../http-application.ts'
import type { Log } from '../log.ts'
import { isOrderStatus } from '../order-status.ts'
import { pageNumber } from '../paging.ts'
import { Refusal } from '../refusal.ts'
import type { ChangeFeed } from './change-feed.ts'
import { orderInWorkPage, ordersInWorkPage, problemPage } from './operator-pages.ts'
import type { OrdersInWork } from './orders-in-work.ts'
import { partnerRoutes, type PartnerParts } from './partner-routes.ts'
import { workStepNames } from './work-steps.ts'

type MesParts = PartnerParts & {
  readonly orders: OrdersInWork
  readonly feed: ChangeFeed
  readonly log: Log
}

export function mesApplication(parts: MesParts): Express {
  const { orders, feed, log } = parts
  const app = newApplication()

  app.use('/api/partner/v1', partnerRoutes(parts))
  app.get('/api/orders/:id', async (request, response) => {
    response.json(await orders.find(request.params.id))
  })
  app.get('/events', (_request, response) => {
    feed.open(response)
  })
  app.get('/', async (request, response) => {
    const page = pageNumber(request.query['page'])
    if (page === undefined) throw new Refusal(422, 'invalid_field', 'There is no such page.')
    const status = request.query['status'] || undefined
    if (status !== undefined && !isOrderStatus(status)) {
      throw new Refusal(422, 'invalid_field', 'There is no such status.')
    }
    const back = new URLSearchParams({ ...(status ? { status } : {}), page: String(page) })
    const shown = await orders.list(status, page)
    response.send(ordersInWorkPage(shown, status, back.toString()))
  })
  app.get('/orders/:id', async (request, response) => {
    response.send(orderInWorkPage(await orders.find(request.params.id)))
  })
  for (const step of workStepNames) {
    app.post(`/orders/:id/${step}`, formBody, async (request, response) => {
      const form = formOf(request.body)
      const operator = step === 'take' ? operatorOf(form) : null
      const { id } = request.params
      await orders.move(id, step, operator)
      const back = form.get('back') ?? 'order'
      response.redirect(
        303,
        back === 'order' ? `/orders/${id}` : `/?${new URLSearchParams(back).toString()}`,
      )
    })
  }

  answerErrors(app, log, (refusal, path, response) => {
    if (path.startsWith('/api/')) answerJsonError(refusal, response)
    else response.send(problemPage(refusal.message))
  })
  return app
}

/** A field given twice counts with its last value. */
function formOf(body: unknown): ReadonlyMap<string, string> {
  const entries = Object.entries(typeof body === 'object' && body !== null ? body : {})
  return new Map(
    entries.map(([name, value]): [string, string] => [
      name,
      String(Array.isArray(value) ? value.at(-1) : value),
    ]),
  )
}

function operatorOf(form: ReadonlyMap<string, string>): string {
  const operator = form.get('operator')?.trim() ?? ''
  if (operator === '' || operator.length > 100 || operator.includes('\u0000')) {
    throw new Refusal(422, 'invalid_field', 'Say who takes the order.', { field: 'operator' })
  }
  return operator
}
