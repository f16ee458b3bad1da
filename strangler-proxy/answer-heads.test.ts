import test from 'ava'
import type { ExecutionContext } from 'ava'

import { doorTo } from './door-under-test.ts'
import { RawClient, fetchFrom, rawExchange } from './stub-client.ts'
import { headOf, rawStub } from './stub-upstream.ts'

const get = 'GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n'

/** The same request through the door and straight at the stub, which answers with these bytes. */
async function bothWays(
  t: ExecutionContext,
  bytes: string,
  request = get,
): Promise<{ direct: string; proxied: string }> {
  const upstream = await rawStub(t, async (socket) => {
    await headOf(socket)
    socket.end(Buffer.from(bytes, 'latin1'))
  })
  const door = await doorTo(t, upstream.origin)
  return {
    direct: await rawExchange(upstream.port, request),
    proxied: await rawExchange(door.port, request),
  }
}

/** Header lines but for those of one connection, and the body. */
function parts(text: string): { status: string; lines: string[]; body: string } {
  const end = text.indexOf('\r\n\r\n')
  const [status, ...lines] = text.slice(0, end).split('\r\n')
  return {
    status: status ?? '',
    lines: lines.filter((line) => !/^(connection|keep-alive|transfer-encoding):/i.test(line)),
    body: text.slice(end + 4),
  }
}

const unchanged: Record<string, string> = {
  'two cookies, case, order, repetitions, a phrase of its own':
    'HTTP/1.1 200 Very Fine\r\nSet-Cookie: a=1; Path=/\r\nX-B: 1\r\nLocation: /orders/1?x=%2f\r\nsEt-cooKie: b=2; HttpOnly\r\n' +
    'x-b: 2\r\nETag: "x"\r\nContent-Length: 2\r\n\r\nok',
  'an absolute Location':
    'HTTP/1.1 302 Found\r\nLocation: http://shop.internal:8080/a\r\nContent-Length: 0\r\n\r\n',
  'no phrase': 'HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok',
  'an error page':
    'HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\noops',
  'a body until the close': 'HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the close',
}
for (const [name, bytes] of Object.entries(unchanged)) {
  test(`an answer passes as it is: ${name}`, async (t) => {
    const { direct, proxied } = await bothWays(t, bytes, get.replace('1.1', '1.0'))
    t.is(parts(proxied).status.slice(9), parts(direct).status.slice(9))
    t.deepEqual(parts(proxied).lines, parts(direct).lines)
    t.is(parts(proxied).body, parts(direct).body)
  })
}

test('statuses without a body, and HEAD', async (t) => {
  for (const head of [
    '204 No Content\r\nX: 1',
    '304 Not Modified\r\nETag: "x"\r\nContent-Length: 7',
  ]) {
    const { direct, proxied } = await bothWays(t, `HTTP/1.1 ${head}\r\n\r\n`)
    t.deepEqual(parts(proxied), parts(direct))
  }
  const { direct, proxied } = await bothWays(
    t,
    'HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n',
    get.replace('GET', 'HEAD'),
  )
  t.deepEqual(parts(proxied), parts(direct))
})

async function disposition(t: ExecutionContext, name: Buffer, lengthFirst: boolean): Promise<void> {
  const line = `Content-Disposition: attachment; filename="${name.toString('latin1')}"`
  const lines = lengthFirst ? ['Content-Length: 2', line] : [line, 'Content-Length: 2']
  const { proxied } = await bothWays(t, `HTTP/1.1 200 OK\r\n${lines.join('\r\n')}\r\n\r\nok`)
  t.deepEqual(parts(proxied).lines, [line, 'Content-Length: 2'])
  t.is(parts(proxied).body, 'ok')
}
for (const lengthFirst of [true, false]) {
  const order = lengthFirst ? 'length first' : 'length last'
  test(`Content-Disposition, UTF-8, ${order}`, disposition, Buffer.from('кольцо.stl'), lengthFirst)
  test(
    `Content-Disposition, low bytes CR LF, ${order}`,
    disposition,
    Buffer.from('a\u010d\u010aX-Injected: 1'),
    lengthFirst,
  )
}

test('a Trailer beside a Content-Length does not end the process', async (t) => {
  const { proxied } = await bothWays(
    t,
    'HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nContent-Length: 2\r\nKeep-Alive: timeout=1\r\nAlt-Svc: h3=":1"\r\n\r\nok',
  )
  t.deepEqual(parts(proxied).lines, ['Content-Length: 2'])
  t.is(parts(proxied).body, 'ok')
})

test('trailers are dropped, and the body is whole', async (t) => {
  const { proxied } = await bothWays(
    t,
    'HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n',
  )
  t.is(parts(proxied).body, '2\r\nok\r\n0\r\n\r\n')
})

const unrelayable: Record<string, string> = {
  'chunked not last':
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
  'length and chunked':
    'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
  'not HTTP': 'hello there\r\n\r\n',
  'a switch nobody asked for':
    'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n',
  'a status out of range': 'HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n',
  'a phrase with control characters': 'HTTP/1.1 200 O\u0001K\r\nContent-Length: 0\r\n\r\n',
}
for (const [name, bytes] of Object.entries(unrelayable)) {
  test(`an answer that can not be framed is a 502: ${name}`, async (t) => {
    const { proxied } = await bothWays(t, bytes)
    t.regex(proxied, /^HTTP\/1\.1 502 Bad Gateway\r\n/)
    t.regex(proxied, /"order_state":"unknown"/)
    t.false(proxied.includes('hello'))
  })
}

test('a connection of the client stays open for its next request', async (t) => {
  const upstream = await rawStub(t, async (socket) => {
    await headOf(socket)
    socket.end('HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok')
  })
  const door = await doorTo(t, upstream.origin)
  const client = new RawClient(door.port)
  const request = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'
  const first = await client.write(request).until('\r\n\r\nok')
  t.regex(first, /Connection: keep-alive/)
  t.is(parts(first).lines.length, 1)
  client.write(request)
  while (client.text.split('\r\n\r\nok').length < 3 && !client.socket.destroyed) {
    await client.until(`${first}HTTP/1.1 200`)
  }
  t.is(client.text.split('\r\n\r\nok').length, 3)
  client.socket.destroy()
})

test('no Date and no name of ours is added', async (t) => {
  const upstream = await rawStub(t, async (socket) => {
    await headOf(socket)
    socket.end('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
  })
  const door = await doorTo(t, upstream.origin)
  const { headers } = await fetchFrom(door.port, '/')
  t.deepEqual(Object.keys(headers).toSorted(), ['connection', 'content-length'])
})
