import test from 'ava'

import { type Exchange, openapiConformance, violationLine } from './openapi-conformance.ts'
import { asSent, orderForm } from './partner-client.ts'

const document = `
openapi: 3.1.0
info: { title: Orders, version: '1' }
servers: [{ url: /api }]
security: [{ key: [] }]
paths:
  /orders:
    post:
      operationId: submit
      parameters:
        - { name: X-Once, in: header, schema: { type: string, pattern: '^[a-z]+$' } }
      requestBody:
        required: true
        content:
          multipart/form-data:
            schema: { $ref: '#/components/schemas/Form' }
      responses:
        '201':
          description: made
          headers:
            Location: { required: true, schema: { type: string, pattern: ^/api/orders/ } }
          content:
            application/json:
              schema: { $ref: '#/components/schemas/Made' }
        '204': { description: there already }
        4XX: { $ref: '#/components/responses/Refused' }
    get:
      parameters:
        - { name: page, in: query, required: true, schema: { type: string, pattern: '^[1-9]$' } }
      responses:
        '200':
          description: some
          content:
            application/json:
              schema: { type: array, items: { $ref: '#/components/schemas/Made' } }
  /orders/{id}:
    parameters:
      - { name: id, in: path, required: true, schema: { type: string, format: uuid } }
    get:
      operationId: read
      responses:
        '200':
          description: one
          content:
            application/json:
              schema: { $ref: '#/components/schemas/Made' }
        '404': { $ref: '#/components/responses/Refused' }
components:
  securitySchemes:
    key: { type: apiKey, in: header, name: X-Key }
  responses:
    Refused:
      description: refused
      content:
        application/json:
          schema:
            type: object
            required: [error]
            properties: { error: { type: string } }
  schemas:
    Form:
      type: object
      required: [model, quantity]
      properties:
        model: { type: string, contentMediaType: application/octet-stream }
        quantity: { type: string, pattern: '^[1-9]$' }
    Made:
      type: object
      required: [id]
      additionalProperties: false
      properties: { id: { type: string, format: uuid } }
`
const { violations, answerViolations } = openapiConformance(document)

const id = '0b7e6f0a-5a1c-4f0e-9d5e-2f6f7e1c9a11'
const base = 'http://partner.test/api'
const model = new Uint8Array([1])
const made = JSON.stringify({ id })
const key = { 'x-key': 'k' }

interface Wire {
  readonly path: string
  readonly init: RequestInit
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly text: string
  readonly malformed?: boolean
}

const json = { 'content-type': 'application/json; charset=utf-8' }
const post = (fields: Record<string, string>, withModel = true): RequestInit => ({
  method: 'POST',
  headers: key,
  body: orderForm(fields, withModel ? model : undefined),
})
const submitted: Wire = {
  path: '/orders',
  init: post({ quantity: '2' }),
  status: 201,
  headers: { ...json, location: `/api/orders/${id}` },
  text: made,
}
const listed: Wire = {
  path: '/orders?page=1',
  init: { headers: key },
  status: 200,
  headers: json,
  text: `[${made}]`,
}
const read: Wire = { ...listed, path: `/orders/${id}`, text: made }
const refused = { status: 400, headers: json, text: '{"error":"no"}' }

async function exchangeOf({
  path,
  init,
  status,
  headers,
  text,
  malformed,
}: Wire): Promise<Exchange> {
  return {
    request: await asSent(`${base}${path}`, init),
    answer: { status, headers: new Headers(headers), text },
    ...(malformed !== undefined && { malformed }),
  }
}

const asDescribed: readonly (readonly [what: string, Wire])[] = [
  ['a submitted order', submitted],
  ['a list', listed],
  ['an order', read],
  ['a refusal, by a range of statuses', { ...submitted, ...refused }],
  ['an answer without a body', { ...submitted, status: 204, headers: {}, text: '' }],
  [
    'a header in its form',
    { ...submitted, init: { ...submitted.init, headers: { ...key, 'x-once': 'once' } } },
  ],
  [
    'a request that is malformed on purpose, and refused',
    { ...submitted, ...refused, init: post({ quantity: 'two' }), malformed: true },
  ],
]
for (const [what, wire] of asDescribed)
  test(`as the document says: ${what}`, async (t) => {
    t.deepEqual(await violations(await exchangeOf(wire)), [])
  })

const wrong: readonly (readonly [Wire, ...string[]])[] = [
  [
    { ...listed, path: '/nothing' },
    'GET /api/nothing, answered 200: request path: is not described',
  ],
  [
    { ...listed, init: { method: 'DELETE', headers: key } },
    'DELETE /api/orders, answered 200: request path: is not described',
  ],
  [{ ...listed, path: '/orders' }, 'GET /orders, answered 200: request query page: is missing'],
  [
    { ...listed, path: '/orders?page=0' },
    'GET /orders, answered 200: request query page: must match pattern "^[1-9]$"',
  ],
  [
    { ...listed, path: '/orders?page=1&page=2' },
    'GET /orders, answered 200: request query page: is there 2 times',
  ],
  [
    { ...listed, path: '/orders?page=1&size=2' },
    'GET /orders, answered 200: request query size: is not described',
  ],
  [{ ...read, path: '/orders/7' }, 'read, answered 200: request path id: must match format "uuid"'],
  [{ ...read, init: {} }, 'read, answered 200: request header X-Key: is missing'],
  [
    { ...submitted, init: { ...submitted.init, headers: { ...key, 'x-once': 'ONCE' } } },
    'submit, answered 201: request header X-Once: must match pattern "^[a-z]+$"',
  ],
  [
    { ...submitted, init: { method: 'POST', headers: key } },
    'submit, answered 201: request body: is missing',
  ],
  [
    { ...submitted, init: { method: 'POST', headers: { ...key, ...json }, body: '{}' } },
    'submit, answered 201: request content type: application/json is not described',
  ],
  [
    {
      ...submitted,
      init: {
        method: 'POST',
        headers: { ...key, 'content-type': 'multipart/form-data; boundary=x' },
        body: 'no form',
      },
    },
    'submit, answered 201: request body: can not be read as multipart/form-data',
  ],
  [
    { ...submitted, init: post({}) },
    "submit, answered 201: request form: must have required property 'quantity'",
  ],
  [
    { ...submitted, init: post({ quantity: '0' }) },
    'submit, answered 201: request form /quantity: must match pattern "^[1-9]$"',
  ],
  [
    { ...submitted, init: post({ quantity: '1', model: 'text' }, false) },
    'submit, answered 201: request field model: is no file',
  ],
  [{ ...submitted, status: 500 }, 'submit, answered 500: response status: is not described'],
  [{ ...submitted, headers: json }, 'submit, answered 201: response header Location: is missing'],
  [
    { ...submitted, headers: { ...json, location: '/elsewhere' } },
    'submit, answered 201: response header Location: must match pattern "^/api/orders/"',
  ],
  [
    { ...read, headers: { 'content-type': 'text/html' } },
    'read, answered 200: response content type: text/html is not described',
  ],
  [{ ...read, headers: {} }, 'read, answered 200: response content type: none is not described'],
  [{ ...read, text: '<html>' }, 'read, answered 200: response body: is no JSON'],
  [{ ...read, text: '{}' }, "read, answered 200: response body: must have required property 'id'"],
  [
    { ...listed, text: '[{"id":"7","x":1}]' },
    'GET /orders, answered 200: response body /0: must NOT have additional properties (x)',
    'GET /orders, answered 200: response body /0/id: must match format "uuid"',
  ],
  [{ ...submitted, status: 204 }, 'submit, answered 204: response body: is not described'],
  [
    { ...submitted, init: post({ quantity: 'two' }), malformed: true },
    'submit, answered 201: response status: is no refusal',
  ],
  [
    { ...submitted, ...refused, malformed: true },
    'submit, answered 400: request as a whole: is not malformed',
  ],
  [
    { ...submitted, ...refused, init: post({ quantity: 'two' }), text: '{}', malformed: true },
    "submit, answered 400: response body: must have required property 'error'",
  ],
]
for (const [wire, ...lines] of wrong)
  test(`it would see: ${lines.join('; ')}`, async (t) => {
    const found = await violations(await exchangeOf(wire))
    t.deepEqual(found.map(violationLine), lines)
  })

test('a field that is there twice, and a text that is a file', async (t) => {
  const form = orderForm({ quantity: '1' }, model)
  form.append('quantity', '2')
  form.set('comment', new Blob(['x']), 'x')
  const found = await violations(
    await exchangeOf({ ...submitted, init: { method: 'POST', headers: key, body: form } }),
  )
  t.deepEqual(
    found.map(({ where, what }) => `${where}: ${what}`),
    ['field quantity: is there more than once', 'field comment: is a file'],
  )
})

test('an answer alone is judged as far as the document has an operation for it', (t) => {
  const answer = { status: 500, headers: new Headers(), text: '' }
  t.is(answerViolations({ method: 'GET', url: `${base}/orders?page=x` }, answer).length, 1)
  t.is(answerViolations({ method: 'PUT', url: `${base}/orders` }, answer).length, 0)
})

test('a document with a format that nobody checks is refused', async (t) => {
  const { violations: judge } = openapiConformance(document.replaceAll('uuid', 'isbn'))
  await t.throwsAsync(judge(await exchangeOf(read)), { message: /unknown format "isbn"/u })
})
