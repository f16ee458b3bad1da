import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'

import test, { type ExecutionContext } from 'ava'

import { staff } from './people.ts'

const perPage = 3

/** A system whose only list shows orders that wait for `approve`, a few on a page; what it was asked, in turn. */
async function deskOf(
  t: ExecutionContext,
  count: number,
): Promise<{ base: string; log: string[] }> {
  const waiting: string[] = Array.from({ length: count }, () => randomUUID())
  const log: string[] = []
  const server: Server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url!, 'http://desk')
    request.resume()
    if (request.method === 'POST') {
      log.push('press')
      waiting.splice(waiting.indexOf(pathname.split('/')[2]!), 1)
      response.writeHead(303, { location: '/' }).end()
      return
    }
    const number = Number(searchParams.get('page') ?? 1)
    const here =
      searchParams.get('status') === 'PRICE_CALCULATED'
        ? waiting.slice((number - 1) * perPage, number * perPage)
        : []
    if (searchParams.get('status') === 'PRICE_CALCULATED') log.push(`page ${number}`)
    const pages = Math.max(1, Math.ceil(waiting.length / perPage))
    const forms = here.map((id) => `<form method="post" action="/orders/${id}/approve">`).join('')
    response.end(`${forms} Page ${number} of ${pages}, ${waiting.length} in all`)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a TCP server has such an address
  return { base: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, log }
}

async function approvals(
  t: ExecutionContext,
  options: { orders: number; pagesAtOnce?: number },
): Promise<string[]> {
  const { base, log } = await deskOf(t, options.orders)
  const { promise, resolve } = Promise.withResolvers<void>()
  let left = options.orders
  const people = staff(
    { shop: base, crm: base, mes: base },
    {
      ...(options.pagesAtOnce === undefined ? {} : { pagesAtOnce: options.pagesAtOnce }),
      peoplePerDesk: 2,
      pauseMs: 1,
      onStep: () => {
        left -= 1
        if (left === 0) resolve()
      },
    },
  )
  await promise
  await people.stop()
  return log.slice(0, log.lastIndexOf('press') + 1)
}

test('people who open several pages at once have all that waits in hand', async (t) => {
  const log = await approvals(t, { orders: 7, pagesAtOnce: 10 })
  t.deepEqual(log, ['page 1', 'page 2', 'page 3', ...Array.from({ length: 7 }, () => 'press')])
})

test('by default a page is worked through before the next is opened', async (t) => {
  const log = await approvals(t, { orders: 5 })
  t.deepEqual(log, ['page 1', 'press', 'press', 'press', 'page 1', 'press', 'press'])
})
