import type { Estate } from '../../estate/estate.ts'
import {
  type Exchange,
  openapiConformance,
  violationLine,
} from '../../estate/openapi-conformance.ts'
import { asSent, orderForm, send } from '../../estate/partner-client.ts'
import { torusStl } from '../../estate/sample-models.ts'

/** The partner's requests that were answered, against the document that the running intake serves. */
export interface ContractFindings {
  readonly exchanges: number
  /** A line each. */
  readonly violations: readonly string[]
}

export async function holdAgainstDocument(
  estate: Estate,
  exchanges: readonly Exchange[],
): Promise<ContractFindings> {
  const served = await fetch(`http://127.0.0.1:${estate.process('intake').port}/openapi.yaml`)
  if (!served.ok) throw new Error(`the intake answers ${served.status} for /openapi.yaml`)
  const { violations } = openapiConformance(await served.text())
  const found = await Promise.all(exchanges.map(violations))
  return { exchanges: exchanges.length, violations: found.flat().map(violationLine) }
}

/** What a partner gets wrong before it gets it right: each breaks the document, and none may become an order. */
export async function malformedRequests(api: string, key: string): Promise<Exchange[]> {
  const model = new Uint8Array(torusStl(200))
  const fields = { external_id: 'PO-malformed', material: 'PLA', quantity: '1' }
  const headers = { 'x-api-key': key }
  const order = (body: FormData | string): RequestInit => ({ method: 'POST', headers, body })
  const wrong: readonly (readonly [path: string, init: RequestInit])[] = [
    ['/orders', order(orderForm(fields, undefined))],
    ['/orders', order(orderForm({ ...fields, model: 'model.stl' }, undefined))],
    ['/orders', order(orderForm({ ...fields, quantity: 'two' }, model))],
    ['/orders', order(orderForm({ ...fields, external_id: '' }, model))],
    ['/orders', order(orderForm({ ...fields, material: 'm'.repeat(101) }, model))],
    ['/orders', order(JSON.stringify(fields))],
    ['/orders', { ...order(orderForm(fields, model)), headers: {} }],
    ['/orders', {}],
    ['/orders?status=LOST', { headers }],
    ['/orders?page=0', { headers }],
    ['/orders?page=1&page=2', { headers }],
    ['/orders/7', { headers }],
  ]
  return await Promise.all(
    wrong.map(async ([path, init]) => ({
      ...(await exchange(`${api}${path}`, init)),
      malformed: true,
    })),
  )
}

/** A partner looks at each of its orders, and at its lists. */
export async function readOrders(
  api: string,
  key: string,
  ids: readonly string[],
): Promise<Exchange[]> {
  const paths = [
    '/orders',
    '/orders?page=2',
    '/orders?status=CLOSED&page=1',
    '/orders?status=&page=',
  ]
  return await Promise.all(
    [...paths, ...ids.map((id) => `/orders/${id}`)].map((path) =>
      exchange(`${api}${path}`, { headers: { 'x-api-key': key } }),
    ),
  )
}

async function exchange(url: string, init: RequestInit): Promise<Exchange> {
  const request = await asSent(url, init)
  return { request, answer: await send(request, AbortSignal.timeout(60_000)) }
}
