import { createHash } from 'node:crypto'

import test from 'ava'
import type { ExecutionContext } from 'ava'

import { traceIdOfOrder } from '../contracts/trace-context.ts'
import { doorTo } from './door-under-test.ts'
import { RawClient, fetchFrom, rawExchange } from './stub-client.ts'
import { headOf, httpStub, rawStub } from './stub-upstream.ts'

const orderId = '3f2b8c1e-9a4d-4e6f-8b7a-0123456789ab'

/** What an upstream sees of a raw request that passes the door. */
async function seenBehind(
  t: ExecutionContext,
  raw: string,
  trusted: string[] = [],
): Promise<string> {
  const heads: string[] = []
  const upstream = await rawStub(t, async (socket) => {
    heads.push(await headOf(socket))
    socket.end('HTTP/1.1 204 No Content\r\n\r\n')
  })
  const door = await doorTo(t, upstream.origin, {}, trusted)
  const answer = await new RawClient(door.port).write(raw).until('\r\n\r\n')
  return heads[0] ?? `refused: ${answer.split('\r\n', 1)[0]}`
}

function headers(head: string, name: string): string[] {
  const lines = head.split('\r\n').slice(1)
  return lines
    .filter((line) => line.toLowerCase().startsWith(`${name}:`))
    .map((line) => line.slice(name.length + 1).trim())
}

test('what Connection lists stays here, and our own headers do not', async (t) => {
  const head = await seenBehind(
    t,
    `GET /orders/${orderId} HTTP/1.1\r\nHost: shop.test\r\nX-Hop: 1\r\nX-Stay: 2\r\nKeep-Alive: timeout=9\r\n` +
      'Proxy-Authorization: Basic x\r\nTE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n' +
      'Connection: x-hop, x-strangler-order, traceparent, host, content-type, x-forwarded-for, upgrade, http2-settings\r\n' +
      'Content-Type: text/plain\r\n\r\n',
  )
  for (const gone of [
    'x-hop',
    'keep-alive',
    'proxy-authorization',
    'te',
    'upgrade',
    'http2-settings',
  ]) {
    t.deepEqual(headers(head, gone), [], gone)
  }
  t.deepEqual(headers(head, 'x-stay'), ['2'])
  t.deepEqual(headers(head, 'host'), ['shop.test'])
  t.deepEqual(headers(head, 'content-type'), ['text/plain'])
  t.deepEqual(headers(head, 'x-strangler-order'), [orderId])
  t.deepEqual(headers(head, 'x-forwarded-for'), ['127.0.0.1'])
  t.is(headers(head, 'traceparent').length, 1)
})

const spoofed =
  'GET / HTTP/1.1\r\nHost: shop.test\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n' +
  'X-Forwarded-Host: evil.test\r\nX-Forwarded-Port: 1\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n' +
  'X_Forwarded_For: 6.6.6.6\r\nX_Real_IP: 6.6.6.6\r\nX-Strangler-Order: x\r\n\r\n'

test('a client can not say who it is', async (t) => {
  const head = await seenBehind(t, spoofed)
  t.false(/6\.6\.6\.6|evil\.test/.test(head), head)
  t.deepEqual(headers(head, 'x-forwarded-for'), ['127.0.0.1'])
  t.deepEqual(headers(head, 'x-forwarded-proto'), ['http'])
  t.deepEqual(headers(head, 'x-forwarded-host'), ['shop.test'])
  t.deepEqual(headers(head, 'forwarded'), ['for=127.0.0.1;proto=http'])
  t.deepEqual(headers(head, 'x-real-ip'), ['127.0.0.1'])
  t.deepEqual(headers(head, 'x-forwarded-port'), [])
  t.deepEqual(headers(head, 'x-strangler-order'), [])
})

test('a trusted proxy can, and is added to the chain; underscore forms never', async (t) => {
  const head = await seenBehind(t, spoofed, ['127.0.0.1'])
  t.deepEqual(headers(head, 'x-forwarded-for'), ['6.6.6.6, 127.0.0.1'])
  t.deepEqual(headers(head, 'x-forwarded-proto'), ['https'])
  t.deepEqual(headers(head, 'x-real-ip'), ['6.6.6.6'])
  t.deepEqual(headers(head, 'x_forwarded_for'), [])
  t.deepEqual(headers(head, 'x_real_ip'), [])
})

for (const name of ['Host', 'Content-Type', 'Authorization', 'Idempotency-Key']) {
  test(`a second ${name} is refused, even an equal one`, async (t) => {
    const host = name === 'Host' ? '' : 'Host: shop.test\r\n'
    const head = await seenBehind(
      t,
      `POST /api/orders HTTP/1.1\r\n${host}${name}: a\r\n${name.toLowerCase()}: a\r\nContent-Length: 0\r\n\r\n`,
    )
    t.is(head, 'refused: HTTP/1.1 400 Bad Request')
  })
}

test('any other repeated header arrives as often as it was sent', async (t) => {
  const head = await seenBehind(
    t,
    'GET / HTTP/1.1\r\nHost: shop.test\r\nX-A: 1\r\nReferer: r1\r\nX-A: 2\r\nReferer: r2\r\n__proto__: p\r\n\r\n',
  )
  t.deepEqual(headers(head, 'x-a'), ['1', '2'])
  t.deepEqual(headers(head, 'referer'), ['r1', 'r2'])
  t.deepEqual(headers(head, '__proto__'), ['p'])
})

const smuggled = 'GET /smuggled HTTP/1.1\r\nHost: shop.test\r\n\r\n'
const ambiguous: Record<string, string> = {
  'CL and TE': `Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
  'two lengths': `Content-Length: 0\r\nContent-Length: 5\r\n\r\n${smuggled}`,
  xchunked: `Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n${smuggled}`,
  'space before colon': `Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n${smuggled}`,
  'folded line': `X: 1\r\n Content-Length: 5\r\n\r\n${smuggled}`,
  'chunked not last': `Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n${smuggled}`,
}
for (const [name, rest] of Object.entries(ambiguous)) {
  test(`ambiguous framing never passes: ${name}`, async (t) => {
    const targets: string[] = []
    const upstream = await httpStub(t, (request, response) => {
      targets.push(request.url ?? '')
      response.end('ok')
    })
    const door = await doorTo(t, upstream.origin)
    const answer = await rawExchange(door.port, `POST / HTTP/1.1\r\nHost: shop.test\r\n${rest}`)
    t.true(answer.startsWith('HTTP/1.1 400 '), answer)
    t.deepEqual(targets, [])
    const next = await fetchFrom(door.port, '/next')
    t.is(next.body.toString(), 'ok')
    t.deepEqual(targets, ['/next'])
  })
}

test('Connection can not list the framing away: a chunked DELETE keeps its body', async (t) => {
  const bodies: string[] = []
  const upstream = await httpStub(t, (request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => (body += chunk.toString()))
    request.on('end', () => {
      bodies.push(body)
      response.end('ok')
    })
  })
  const door = await doorTo(t, upstream.origin)
  const client = new RawClient(door.port).write(
    'DELETE / HTTP/1.1\r\nHost: a\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
  )
  t.true((await client.until('ok')).startsWith('HTTP/1.1 200'))
  t.deepEqual(bodies, ['hello'])
  client.socket.destroy()
})

// UTF-8, and two characters whose low bytes are CR LF.
const names: Record<string, Buffer> = {
  utf8: Buffer.from('кольцо.stl'),
  'low bytes CR LF': Buffer.from('a\u010d\u010aX-Injected: 1'),
}
for (const [name, bytes] of Object.entries(names)) {
  for (const lengthFirst of [true, false]) {
    test(`Content-Disposition bytes arrive equal: ${name}, length ${lengthFirst ? 'first' : 'last'}`, async (t) => {
      const value = `attachment; filename="${bytes.toString('latin1')}"`
      const disposition = `Content-Disposition: ${value}\r\n`
      const length = 'Content-Length: 2\r\n'
      const head = await seenBehind(
        t,
        `POST / HTTP/1.1\r\nHost: a\r\n${lengthFirst ? length + disposition : disposition + length}\r\nhi`,
      )
      t.deepEqual(headers(head, 'content-disposition'), [value])
      t.deepEqual(headers(head, 'x-injected'), [])
    })
  }
}

test('the trace: a valid one is kept, otherwise the order gives it', async (t) => {
  const own = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00'
  const kept = await seenBehind(
    t,
    `GET /api/orders/${orderId} HTTP/1.1\r\nHost: a\r\nTraceparent: ${own}\r\nTracestate: a=b\r\n\r\n`,
  )
  t.deepEqual(headers(kept, 'traceparent'), [own])
  t.deepEqual(headers(kept, 'tracestate'), ['a=b'])
  const made = await seenBehind(
    t,
    `GET /api/partner/v1/orders/${orderId.toUpperCase()}?x=1 HTTP/1.1\r\nHost: a\r\nTraceparent: junk\r\nTracestate: a=b\r\n\r\n`,
  )
  t.regex(
    headers(made, 'traceparent')[0] ?? '',
    new RegExp(`^00-${traceIdOfOrder(orderId)}-[0-9a-f]{16}-01$`),
  )
  t.deepEqual(headers(made, 'tracestate'), [])
  t.deepEqual(headers(made, 'x-strangler-order'), [orderId])
  const none = await seenBehind(t, 'GET /api/orders HTTP/1.1\r\nHost: a\r\n\r\n')
  t.deepEqual(headers(none, 'x-strangler-order'), [])
})

test('forms of the target that would change on the way are refused', async (t) => {
  t.is(
    await seenBehind(t, 'OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n'),
    'refused: HTTP/1.1 400 Bad Request',
  )
  t.is(
    await seenBehind(t, 'GET http://evil.test/ HTTP/1.1\r\nHost: a\r\n\r\n'),
    'refused: HTTP/1.1 400 Bad Request',
  )
  t.regex(await seenBehind(t, 'GET http://a/x?y HTTP/1.1\r\nHost: a\r\n\r\n'), /^GET \/x\?y HTTP/)
  t.regex(
    await seenBehind(t, 'GET //x/../y?%zz HTTP/1.1\r\nHost: a\r\n\r\n'),
    /^GET \/\/x\/\.\.\/y\?%zz HTTP/,
  )
  t.is(
    await seenBehind(t, 'GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi'),
    'refused: HTTP/1.1 400 Bad Request',
  )
})

test('Expect is answered here, and our headers are there all the same', async (t) => {
  const heads: string[] = []
  const hash = createHash('sha256')
  const upstream = await rawStub(t, (socket) => {
    let seen = 0
    void headOf(socket, (chunk) => {
      hash.update(chunk)
      seen += chunk.length
      if (seen === 4) socket.end('HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n')
    }).then((head) => heads.push(head))
  })
  const door = await doorTo(t, upstream.origin)
  const client = new RawClient(door.port).write(
    `PUT /api/orders/${orderId}/model HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n`,
  )
  t.is(await client.until('\r\n\r\n'), 'HTTP/1.1 100 Continue\r\n\r\n')
  client.write('body')
  t.regex(await client.until('201 Created'), /HTTP\/1\.1 201 Created/)
  t.deepEqual(headers(heads[0] ?? '', 'expect'), [])
  t.deepEqual(headers(heads[0] ?? '', 'x-strangler-order'), [orderId])
  client.socket.destroy()
})
