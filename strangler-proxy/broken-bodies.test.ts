import { EventEmitter, once } from 'node:events'
import { request as httpRequest } from 'node:http'

import test from 'ava'

import { doorTo } from './door-under-test.ts'
import { RawClient, fetchFrom } from './stub-client.ts'
import { headOf, httpStub, rawStub } from './stub-upstream.ts'

/** Uploads until something comes back; resolves with the status, or 0 when the connection broke first. */
function upload(port: number, bytes: number): Promise<number> {
  return new Promise((resolve) => {
    const sent = httpRequest({ host: '127.0.0.1', port, method: 'PUT', path: '/', agent: false })
    sent.setHeader('Content-Length', bytes)
    sent.on('error', () => resolve(0))
    sent.on('response', (answer) => {
      answer.resume()
      answer.on('close', () => {
        resolve(answer.complete ? (answer.statusCode ?? 0) : 0)
        sent.destroy()
      })
    })
    const chunk = Buffer.alloc(65_536)
    let left = bytes
    const more = (): void => {
      while (left > 0 && !sent.destroyed) {
        const part = chunk.subarray(0, Math.min(left, chunk.length))
        left -= part.length
        if (!sent.write(part)) {
          sent.once('drain', more)
          return
        }
      }
      sent.end()
    }
    more()
  })
}

for (const closes of [true, false]) {
  test(`413 in the middle of 50 MB reaches the client, the upstream ${closes ? 'closes' : 'reads on'}`, async (t) => {
    const body = 'too large'
    const head = `HTTP/1.1 413 Payload Too Large\r\nContent-Length: ${body.length}\r\n`
    const upstream = await rawStub(t, async (socket) => {
      let seen = 0
      await headOf(socket, (chunk) => {
        const before = seen
        seen += chunk.length
        if (before >= 1_000_000 || seen < 1_000_000) return
        if (closes) {
          socket.pause()
          socket.write(`${head}Connection: close\r\n\r\n${body}`, () => socket.destroy())
        } else {
          socket.write(`${head}\r\n${body}`)
        }
      })
    })
    const door = await doorTo(t, upstream.origin)
    const statuses = []
    for (let n = 0; n < 20; n += 1) statuses.push(await upload(door.port, 50_000_000))
    t.deepEqual(
      statuses,
      Array.from({ length: 20 }, () => 413),
    )
  })
}

const pieces = ['5\r\nhello\r\n', '6\r\n world\r\n', '1\r\n!\r\n', '0\r\n\r\n'].join('')

test('an upstream cut at any byte of its answer never looks like a clean end', async (t) => {
  const chunked = `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${pieces}`
  const sized = 'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello world!'
  let answer = ''
  let reset = false
  const upstream = await rawStub(t, async (socket) => {
    await headOf(socket)
    if (reset) socket.write(answer, () => socket.resetAndDestroy())
    else socket.end(answer)
  })
  const door = await doorTo(t, upstream.origin)
  for (const whole of [chunked, sized]) {
    const head = whole.indexOf('\r\n\r\n') + 4
    for (let at = head; at <= whole.length; at += 1) {
      for (reset of at < whole.length ? [true, false] : [false]) {
        answer = whole.slice(0, at)
        const received = await fetchFrom(door.port, '/').catch(() => undefined)
        const clean = received?.whole === true && received.status === 200
        t.is(clean, at === whole.length, `cut at ${at} of ${whole.length}`)
        if (clean) t.is(received.body.toString(), 'hello world!')
        else
          t.true(
            'hello world!'.startsWith(received?.status === 200 ? received.body.toString() : ''),
          )
      }
    }
  }
  // The upstream's doing, never the client's. A reset may overtake the head.
  const outcomes = new Set(door.passed.map((each) => each.end.outcome))
  outcomes.delete('head_reset')
  t.deepEqual([...outcomes].toSorted(), ['answer_cut', 'passed'])
})

test('an answer that stands still is cut, not ended', async (t) => {
  const upstream = await httpStub(t, (_request, response) => {
    response.writeHead(200, { 'Content-Length': 10 })
    response.write('half')
  })
  const door = await doorTo(t, upstream.origin, { idleMs: 200 })
  const received = await fetchFrom(door.port, '/')
  t.is(received.body.toString(), 'half')
  t.false(received.whole)
  t.is((await door.over(1))[0]?.end.outcome, 'answer_timeout')
})

test('an upload the client breaks off is broken off at the upstream, at whatever byte', async (t) => {
  const request = 'PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n'
  const events = new EventEmitter()
  const upstream = await httpStub(t, (incoming, response) => {
    events.emit('head')
    incoming.resume()
    incoming.on('error', () => undefined)
    incoming.on('close', () => events.emit('end', incoming.complete ? 'whole' : 'broken off'))
    incoming.on('end', () => response.end('ok'))
  })
  const door = await doorTo(t, upstream.origin)
  for (let at = 0; at <= pieces.length; at += 1) {
    const head = once(events, 'head')
    const end = once(events, 'end')
    const client = new RawClient(door.port).write(request + pieces.slice(0, at))
    await head
    if (at === pieces.length) await client.until('ok')
    client.socket.destroy()
    const [how] = await end
    t.is(how, at === pieces.length ? 'whole' : 'broken off', `at ${at}`)
  }
  const outcomes = (await door.over(pieces.length + 1)).map((each) => each.end.outcome)
  t.deepEqual(
    outcomes.slice(0, -1),
    Array.from({ length: pieces.length }, () => 'body_aborted'),
  )
})
