import test from 'ava'
import type { ExecutionContext } from 'ava'

import { doorTo } from './door-under-test.ts'
import { fetchFrom } from './stub-client.ts'
import { headOf, rawStub } from './stub-upstream.ts'
import type { StubUpstream } from './stub-upstream.ts'

interface Closing extends StubUpstream {
  readonly hits: number
}

/** Closes a connection 30 ms after its last answer, with no word of it: the keep-alive race. */
async function closesIdle(t: ExecutionContext): Promise<Closing> {
  let hits = 0
  const upstream = await rawStub(t, (socket) => {
    let idle: NodeJS.Timeout | undefined
    let pending = ''
    socket.on('data', (chunk: Buffer) => {
      clearTimeout(idle)
      pending += chunk.toString('latin1')
      const end = pending.indexOf('\r\n\r\n')
      if (end === -1) return
      const length = Number(/content-length: (\d+)/i.exec(pending)?.[1] ?? 0)
      if (pending.length < end + 4 + length) return
      pending = pending.slice(end + 4 + length)
      hits += 1
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
      idle = setTimeout(() => socket.destroy(), 30)
    })
    socket.on('close', () => clearTimeout(idle))
  })
  return {
    ...upstream,
    get hits() {
      return hits
    },
    get connections() {
      return upstream.connections
    },
  }
}

/** Pauses that straddle the 30 ms, so that requests leave as the connection is being closed. */
async function inTurns(count: number, send: () => Promise<number>): Promise<number[]> {
  const statuses: number[] = []
  const lane = async (first: number): Promise<void> => {
    for (let n = first; n < count; n += 25) {
      statuses.push(await send().catch(() => 0))
      await new Promise((resolve) => {
        setTimeout(resolve, 27 + (n % 7))
      })
    }
  }
  await Promise.all(Array.from({ length: 25 }, (_, lane_) => lane(lane_)))
  return statuses
}

test('500 POSTs to an upstream that closes idle connections: none fails, each arrives once', async (t) => {
  const upstream = await closesIdle(t)
  const door = await doorTo(t, upstream.origin)
  const statuses = await inTurns(500, async () => {
    const { status } = await fetchFrom(door.port, '/api/orders', {
      method: 'POST',
      body: '{"n":1}',
    })
    return status
  })
  t.deepEqual([...new Set(statuses)], [200])
  t.is(statuses.length, 500)
  t.is(upstream.hits, 500)
})

test('500 GETs to the same: none fails, and connections are reused', async (t) => {
  const upstream = await closesIdle(t)
  const door = await doorTo(t, upstream.origin)
  const statuses = await inTurns(500, async () => (await fetchFrom(door.port, '/')).status)
  t.deepEqual([...new Set(statuses)], [200])
  t.is(statuses.length, 500)
  t.true(upstream.connections < 500, `${upstream.connections} connections`)
})

for (const [method, expected] of [
  ['GET', 200],
  ['POST', 502],
] as const) {
  test(`a reset without an answer: ${method} ends with ${expected}`, async (t) => {
    let requests = 0
    const upstream = await rawStub(t, async (socket) => {
      await headOf(socket, () => {
        // The second request of this connection.
        requests += 1
        socket.resetAndDestroy()
      })
      requests += 1
      if (method === 'POST') socket.resetAndDestroy()
      else socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
    })
    const door = await doorTo(t, upstream.origin)
    const send = () => fetchFrom(door.port, '/', { method })
    if (method === 'GET') await send()
    const answer = await send()
    t.is(answer.status, expected)
    // GET: one that primed the connection, one that was reset on it, one that repeated it. POST: once and never again.
    t.is(requests, method === 'GET' ? 3 : 1)
    if (method === 'POST') t.regex(answer.body.toString(), /"order_state":"unknown"/)
  })
}

test('a GET on a fresh connection is not repeated', async (t) => {
  let requests = 0
  const upstream = await rawStub(t, async (socket) => {
    await headOf(socket)
    requests += 1
    socket.resetAndDestroy()
  })
  const door = await doorTo(t, upstream.origin)
  t.is((await fetchFrom(door.port, '/')).status, 502)
  t.is(requests, 1)
})
