import { once } from 'node:events'
import { get } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { performance } from 'node:perf_hooks'

import test from 'ava'

import { doorTo } from './door-under-test.ts'
import { RawClient, fetchFrom, rawExchange } from './stub-client.ts'
import { httpStub } from './stub-upstream.ts'

function openStream(port: number): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    get(
      {
        host: '127.0.0.1',
        port,
        path: '/events',
        agent: false,
        headers: { Accept: 'text/event-stream' },
      },
      resolve,
    ).on('error', reject)
  })
}

test.serial(
  'an event stream: the head at once, each event at once, quiet past every timer, both ends close',
  async (t) => {
    const streams: ServerResponse[] = []
    const upstream = await httpStub(t, (request, response) => {
      if (request.url !== '/events') {
        response.end('page')
        return
      }
      response.writeHead(200, { 'Content-Type': 'text/event-stream' })
      response.flushHeaders()
      streams.push(response)
    })
    const timers = { idleMs: 100, headMs: 100, connectMs: 100, waitMs: 100 }
    const door = await doorTo(t, upstream.origin, timers)
    const first = await openStream(door.port)
    t.is(first.headers['content-type'], 'text/event-stream')
    const other = await openStream(door.port)
    t.is(door.listener.numbers().eventStreams, 2)

    // A page that the idle timer would cut as well, had it been as quiet: the control that the timer runs.
    await new Promise((resolve) => {
      setTimeout(resolve, 400)
    })
    const began = performance.now()
    streams[0]?.write('data: 1\n\n')
    const [event] = await once(first, 'data')
    t.is(String(event), 'data: 1\n\n')
    t.true(performance.now() - began < 500)
    t.is((await fetchFrom(door.port, '/')).body.toString(), 'page')

    streams[0]?.end()
    first.resume()
    await once(first, 'end')
    t.true(first.complete)

    const gone = once(streams[1]!, 'close')
    other.destroy()
    await gone
    const [ended, left] = (await door.over(3)).filter(
      (each) => each.exchange.request.url === '/events',
    )
    t.is(ended?.end.outcome, 'passed')
    t.is(left?.end.outcome, 'answer_aborted')
  },
)

test.serial('many open streams take no place from a page', async (t) => {
  const upstream = await httpStub(t, (request, response) => {
    if (request.url === '/events') {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' })
      response.flushHeaders()
    } else {
      response.end('page')
    }
  })
  const door = await doorTo(t, upstream.origin)
  const open = await Promise.all(Array.from({ length: 300 }, () => openStream(door.port)))
  t.is((await fetchFrom(door.port, '/')).body.toString(), 'page')
  for (const each of open) each.destroy()
  await door.over(301)
  t.is(door.listener.numbers().inFlight, 0)
  t.is(door.listener.numbers().places['stream']?.taken, 0)
})

const webSocket =
  'Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n\r\n'

test.serial(
  'an upgrade or a tunnel without a route: 404, closed at once, and the upstream never hears of it',
  async (t) => {
    const targets: string[] = []
    const upstream = await httpStub(t, (request, response) => {
      targets.push(`${request.method} ${request.url} ${request.headers.upgrade ?? '-'}`)
      response.end('ok')
    })
    const door = await doorTo(t, upstream.origin)
    for (const request of [
      `GET /nowhere HTTP/1.1\r\n${webSocket}`,
      'CONNECT internal.test:22 HTTP/1.1\r\nHost: internal.test:22\r\n\r\n',
    ]) {
      const began = performance.now()
      t.regex(await rawExchange(door.port, request), /^HTTP\/1\.1 404 Not Found\r\n/)
      t.true(performance.now() - began < 500)
    }
    t.deepEqual(targets, [])
    // Not a WebSocket's way of asking: served as if it had not asked.
    for (const request of [
      `POST /p HTTP/1.1\r\nContent-Length: 0\r\n${webSocket}`,
      'GET /h HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n',
    ]) {
      const client = new RawClient(door.port).write(request)
      t.regex(await client.until('ok'), /^HTTP\/1\.1 200 OK\r\n/)
      client.socket.destroy()
    }
    t.deepEqual(targets, ['POST /p -', 'GET /h -'])
    t.regex(
      await rawExchange(door.port, 'M-SEARCH * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'),
      /^HTTP\/1\.1 400 /,
    )
    t.is(targets.length, 2)
  },
)
