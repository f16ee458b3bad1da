import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { basename } from 'node:path'

import { type Answer, ask, type Sent } from './http-request.ts'

/** What a person of the estate met that they did not expect. */
export class PeopleError extends Error {
  override readonly name = 'PeopleError'
  readonly status: number

  constructor(what: string, status: number, body: string) {
    super(`${what}: HTTP ${status} ${body.slice(0, 300)}`)
    this.status = status
  }
}

export interface OrderWish {
  readonly clientId: number | null
  readonly material: string
  readonly quantity: number
  readonly comment?: string
  /** The model, as a file. */
  readonly file: string
}

export interface PlacedOrder {
  readonly id: string
  /** Of the bytes that were uploaded, computed by the customer. */
  readonly sha256: string
}

interface Pages {
  readonly shop: string
  readonly crm: string
  readonly mes: string
}

const patienceMs = 300_000

/** A customer does not give up at the first 5xx or broken connection; what must not be repeated blindly, is looked up first. */
async function insist(what: string, url: string, sent: Sent): Promise<Answer> {
  const deadline = performance.now() + patienceMs
  for (;;) {
    try {
      const answer = await ask(url, sent)
      if (answer.status < 500 && answer.status !== 429) return accepted(what, answer)
      if (performance.now() > deadline) throw new PeopleError(what, answer.status, answer.body)
    } catch (error) {
      if (error instanceof PeopleError || performance.now() > deadline) throw error
    }
    await new Promise((resolve) => {
      setTimeout(resolve, 100)
    })
  }
}

function accepted(what: string, answer: Answer): Answer {
  if (answer.status >= 400) throw new PeopleError(what, answer.status, answer.body)
  return answer
}

function idOf(what: string, { status, body }: Answer): string {
  const answer: unknown = JSON.parse(body)
  if (typeof answer === 'object' && answer !== null && 'id' in answer) return String(answer.id)
  throw new PeopleError(what, status, 'an answer without an id')
}

const json = { 'content-type': 'application/json' }

export async function registerClient(
  pages: Pages,
  email: string,
  fullName: string,
): Promise<number> {
  const answer = await insist('register', `${pages.shop}/api/clients`, {
    method: 'POST',
    headers: json,
    body: JSON.stringify({
      email,
      full_name: fullName,
      password: createHash('sha256').update(email).digest('hex'),
    }),
  })
  return Number(idOf('register', answer))
}

interface Model {
  readonly body: NonNullable<Sent['body']>
  readonly sha256: string
}

const keptBytes = 1_000_000
const models = new Map<string, Promise<Model>>()

/** A small one is read once and kept: people of a long run upload it again and again. */
async function readModel(file: string): Promise<Model> {
  const { size: bytes } = await stat(file)
  const hash = createHash('sha256')
  if (bytes <= keptBytes) {
    const body = await readFile(file)
    return { body, sha256: hash.update(body).digest('hex') }
  }
  for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) hash.update(chunk)
  return { body: { file, bytes }, sha256: hash.digest('hex') }
}

function modelOf(file: string): Promise<Model> {
  const known = models.get(file) ?? readModel(file)
  models.set(file, known)
  return known
}

/** A customer's whole way: order, upload, submit. Every step may be repeated after an error, and the customer does. */
export async function placeOrder(pages: Pages, wish: OrderWish): Promise<PlacedOrder> {
  const created = await insist('create an order', `${pages.shop}/api/orders`, {
    method: 'POST',
    headers: json,
    body: JSON.stringify({
      client_id: wish.clientId,
      material: wish.material,
      quantity: wish.quantity,
      ...(wish.comment === undefined ? {} : { comment: wish.comment }),
    }),
  })
  const id = idOf('create an order', created)
  const { body, sha256 } = await modelOf(wish.file)
  await insist('upload a model', `${pages.shop}/api/orders/${id}/model`, {
    method: 'PUT',
    headers: {
      'content-disposition': `attachment; filename*=UTF-8''${encodeURIComponent(basename(wish.file))}`,
    },
    body,
  })
  await submitOrder(pages, id)
  return { id, sha256 }
}

export async function submitOrder(pages: Pages, id: string): Promise<void> {
  await insist('submit', `${pages.shop}/api/orders/${id}/submit`, { method: 'POST' })
}

async function pressForm(
  base: string,
  path: string,
  fields: Record<string, string> = {},
): Promise<number> {
  const { status } = await ask(`${base}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded;charset=UTF-8' },
    body: new URLSearchParams(fields).toString(),
  })
  return status
}

/**
 * The ids of the orders that a list shows with a form for the given step, such as `approve` or `take`: of its first pages, as
 * many as it has and at most `pages`.
 */
async function ordersWithForm(
  base: string,
  path: string,
  step: string,
  pages: number,
): Promise<string[]> {
  const ids = new Set<string>()
  const form = new RegExp(`action="/orders/([0-9a-f-]{36})/${step}"`, 'g')
  for (let number = 1; number <= pages; number += 1) {
    const url = `${base}${path}${number === 1 ? '' : `&page=${number}`}`
    const { body: page } = accepted(`open ${path}`, await ask(url))
    // Between two pages an order may have come or gone, and the list have shifted: what is missed is seen in the next round.
    for (const match of page.matchAll(form)) ids.add(match[1]!)
    if (number >= Number(/Page \d+ of (\d+)/.exec(page)?.[1] ?? 1)) break
  }
  return [...ids]
}

export interface StaffOptions {
  readonly peoplePerDesk?: number
  /** How many pages of a list are opened before the work on it begins. */
  readonly pagesAtOnce?: number
  /** Between two rounds of a desk. */
  readonly pauseMs?: number
  /** The same when the last round found nothing: a page costs as much with no order on it. */
  readonly idleMs?: number
  readonly onStep?: (step: string, orderId: string) => void
}

interface Staff {
  /** Works until told to stop; resolves when the last round is over. */
  stop(): Promise<void>
}

/** Sellers (approve, close) and operators (take, complete, pack, ship) at their pages, pressing the forms that they see. */
export function staff(pages: Pages, options: StaffOptions = {}): Staff {
  const { peoplePerDesk = 4, pagesAtOnce = 1, pauseMs = 100, idleMs = pauseMs } = options
  const desks: { base: string; path: string; step: string; fields?: Record<string, string> }[] = [
    { base: pages.crm, path: '/?status=PRICE_CALCULATED', step: 'approve' },
    {
      base: pages.mes,
      path: '/?status=MANUFACTURING_APPROVED',
      step: 'take',
      fields: { operator: 'Olga' },
    },
    { base: pages.mes, path: '/?status=MANUFACTURING_STARTED', step: 'complete' },
    { base: pages.mes, path: '/?status=MANUFACTURING_COMPLETED', step: 'pack' },
    { base: pages.mes, path: '/?status=PACKAGING', step: 'ship' },
    { base: pages.crm, path: '/?status=SHIPPED', step: 'close' },
  ]
  const over = new AbortController()
  const work = async (desk: (typeof desks)[number]): Promise<void> => {
    while (!over.signal.aborted) {
      let found = 0
      try {
        const orders = await ordersWithForm(desk.base, desk.path, desk.step, pagesAtOnce)
        found = orders.length
        await Promise.all(
          Array.from({ length: peoplePerDesk }, async () => {
            for (let id = orders.shift(); id !== undefined; id = orders.shift()) {
              if (over.signal.aborted) return
              const status = await pressForm(desk.base, `/orders/${id}/${desk.step}`, desk.fields)
              if (status === 303) options.onStep?.(desk.step, id)
            }
          }),
        )
      } catch {
        // A page that does not open is opened again; the order is still there.
      }
      await new Promise((resolve) => {
        setTimeout(resolve, found === 0 ? idleMs : pauseMs)
      })
    }
  }
  const shifts = desks.map(work)
  return {
    async stop() {
      over.abort()
      await Promise.all(shifts)
    },
  }
}
