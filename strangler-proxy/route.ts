/** Requests of a class share connections and a limit, so that open streams or uploads can't starve a page. */
export type RouteClass = 'page' | 'write' | 'upload' | 'stream'

export interface Route {
  /** For labels and records. Holds no text of the client's but words of the table below. */
  readonly template: string
  readonly routeClass: RouteClass
  readonly orderId: string | undefined
}

/** The paths of the legacy systems that name an order, as data. Any other passes as well, under a general name. */
const orderPaths = new Set([
  '/orders/:id',
  '/orders/:id/approve',
  '/orders/:id/close',
  '/orders/:id/take',
  '/orders/:id/complete',
  '/orders/:id/pack',
  '/orders/:id/ship',
  '/api/orders/:id',
  '/api/orders/:id/model',
  '/api/orders/:id/submit',
  '/api/orders/:id/approve',
  '/api/orders/:id/close',
  '/api/partner/v1/orders/:id',
])

const collections = new Set([
  '/',
  '/health',
  '/orders',
  '/orders/new',
  '/api/orders',
  '/api/clients',
  '/api/partner/v1/orders',
])

const orderInPath =
  /^((?:\/[^/]*)*?\/orders)\/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?=\/|$)(.*)$/i

const megabyte = 1_000_000

interface RouteInput {
  readonly method: string
  /** Path and query, in origin form. */
  readonly target: string
  readonly accept: string
  readonly chunked: boolean
  readonly contentLength: number
}

export function routeOf(input: RouteInput): Route {
  const path = input.target.split('?', 1)[0]!
  const match = orderInPath.exec(path)
  const routeClass = classOf(input)
  if (match === null)
    return { template: collections.has(path) ? path : '/*', routeClass, orderId: undefined }
  const template = `${match[1]}/:id${match[3]}`
  return {
    template: orderPaths.has(template) ? template : '/*/orders/:id/*',
    routeClass,
    // PostgreSQL reads a UUID in either case; the ledger has the lower one.
    orderId: match[2]!.toLowerCase(),
  }
}

function classOf(input: RouteInput): RouteClass {
  if (isSafe(input.method)) {
    return /\btext\/event-stream\b/i.test(input.accept) ? 'stream' : 'page'
  }
  return input.chunked || input.contentLength > megabyte ? 'upload' : 'write'
}

/** Only these may travel on a connection that was used before, and be repeated when it proves stale. */
export function isSafe(method: string): boolean {
  return method === 'GET' || method === 'HEAD'
}
