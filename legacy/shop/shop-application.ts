import type { Express } from 'express'
import type { Pool } from 'pg'

import { Fields } from '../fields.ts'
import { answerErrors, answerJsonError, jsonBody, newApplication } from '../http-application.ts'
import type { Log } from '../log.ts'
import { html, page } from '../page.ts'
import { createClient } from './clients.ts'
import { uploadModel, type ModelUpload } from './model-upload.ts'
import { newOrderPage } from './new-order-page.ts'
import { orderPage } from './order-page.ts'

export type ShopParts = ModelUpload & { readonly pool: Pool; readonly log: Log }

export function shopApplication(parts: ShopParts): Express {
  const { pool, orders, now, log } = parts
  const app = newApplication()

  app.get('/', (_request, response) => {
    response.send(newOrderPage())
  })
  app.get('/orders/:id', async (request, response) => {
    response.send(orderPage(await orders.find(request.params.id)))
  })

  app.post('/api/clients', jsonBody, async (request, response) => {
    response.status(201).json({ id: await createClient(pool, request.body) })
  })
  app.post('/api/orders', jsonBody, async (request, response) => {
    const fields = new Fields(request.body)
    const order = {
      clientId: fields.optionalInteger('client_id', { min: 1, max: Number.MAX_SAFE_INTEGER }),
      material: fields.text('material', 100),
      quantity: fields.integer('quantity', { min: 1, max: 1_000_000 }),
      comment: fields.optionalText('comment', 10_000),
    }
    response.status(201).json({ id: await orders.create(order, now()), status: 'INITIATED' })
  })
  app.put('/api/orders/:id/model', async (request, response) => {
    response.json(await uploadModel(request, request.params.id, parts))
  })
  app.post('/api/orders/:id/submit', async (request, response) => {
    const { id } = request.params
    response.json({ id, status: await orders.submit(id, now()) })
  })
  app.get('/api/orders/:id', async (request, response) => {
    response.json(await orders.find(request.params.id))
  })

  answerErrors(app, log, (refusal, path, response) => {
    if (path.startsWith('/api/')) answerJsonError(refusal, response)
    else {
      const content = html`<h1>Shop</h1>
        <p class="problem">${refusal.message}</p>
        <p><a href="/">Order something</a></p>`
      response.send(page('Shop', content))
    }
  })
  return app
}
