import type { Express } from 'express'
import type { Pool } from 'pg'

import { answerErrors, answerJsonError, jsonBody, newApplication } from '../http-application.ts'
import type { Log } from '../log.ts'
import { isOrderStatus, type OrderStatus } from '../order-status.ts'
import { html, page } from '../page.ts'
import { pageNumber } from '../paging.ts'
import { Refusal } from '../refusal.ts'
import { findClient, updateClient } from './crm-clients.ts'
import type { CrmOrders } from './crm-orders.ts'
import { ordersPage } from './orders-page.ts'

type CrmParts = {
  readonly pool: Pool
  readonly orders: CrmOrders
  readonly now: () => Date
  readonly log: Log
}

export function crmApplication({ pool, orders, now, log }: CrmParts): Express {
  const app = newApplication()

  app.get('/', async (request, response) => {
    const { status, page: number } = shownBy(request.query)
    response.send(ordersPage(await orders.list(status, number), status))
  })
  app.get('/api/orders', async (request, response) => {
    const { status, page: number } = shownBy(request.query)
    response.json(await orders.list(status, number))
  })
  for (const move of ['approve', 'close'] as const) {
    app.post(`/api/orders/:id/${move}`, async (request, response) => {
      const { id } = request.params
      response.json({ id, status: await orders.move(id, move, now()) })
    })
    app.post(`/orders/:id/${move}`, async (request, response) => {
      await orders.move(request.params.id, move, now())
      response.redirect(303, '/')
    })
  }
  app.get('/api/clients/:id', async (request, response) => {
    response.json(await findClient(pool, request.params.id))
  })
  app.put('/api/clients/:id', jsonBody, async (request, response) => {
    response.json(await updateClient(pool, request.params.id, request.body))
  })

  answerErrors(app, log, (refusal, path, response) => {
    if (path.startsWith('/api/')) answerJsonError(refusal, response)
    else {
      const content = html`<h1>CRM</h1>
        <p class="problem">${refusal.message}</p>
        <p><a href="/">All orders</a></p>`
      response.send(page('CRM', content))
    }
  })
  return app
}

function shownBy(query: Readonly<Record<string, unknown>>): {
  status: OrderStatus | undefined
  page: number
} {
  const { status } = query
  const number = pageNumber(query['page'])
  if (number === undefined) throw invalid('page', 'a number from 1')
  if (status === undefined || status === '') return { status: undefined, page: number }
  if (!isOrderStatus(status)) throw invalid('status', 'one of the ten statuses')
  return { status, page: number }
}

function invalid(field: string, expected: string): Refusal {
  return new Refusal(422, 'invalid_field', `${field} must be ${expected}`, { field })
}
