import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { createInterface } from 'node:readline'

import test from 'ava'
import type { ExecutionContext } from 'ava'

import { doorTo } from './door-under-test.ts'
import type { DoorUnderTest } from './door-under-test.ts'
import type { FailureCode } from './failure.ts'
import { RawClient, fetchFrom } from './stub-client.ts'
import { headOf, httpStub, rawStub } from './stub-upstream.ts'

const order = '3f2b8c1e-9a4d-4e6f-8b7a-0123456789ab'
const script = '<script>alert(1)</script>'

interface Expected {
  readonly status: number
  readonly code: FailureCode
  readonly orderState: string
}

/** Answered as this failure, with nothing of the request in the answer, and the door goes on working. */
async function fails(
  t: ExecutionContext,
  door: DoorUnderTest,
  expected: Expected,
  method = 'GET',
): Promise<void> {
  const before = door.passed.length
  const { status, headers, body } = await fetchFrom(door.port, `/api/orders/${order}?q=${script}`, {
    method,
    headers: { Host: script },
    ...(method === 'POST' && { body: script }),
  })
  const text = body.toString()
  t.is(status, expected.status, text)
  t.is(headers['content-type'], 'application/problem+json')
  t.like(JSON.parse(text), {
    type: `urn:strangler-proxy:${expected.code}`,
    status: expected.status,
    order_state: expected.orderState,
    trace_id: order.replaceAll('-', ''),
  })
  t.false(text.includes('script'))
  const passed = await door.over(before + 1)
  t.is(passed.at(-1)?.end.outcome, expected.code)
}

test('refused', async (t) => {
  const upstream = await rawStub(t, () => undefined)
  await upstream.close()
  const door = await doorTo(t, upstream.origin)
  const expected = { status: 502, code: 'refused', orderState: 'not_sent' } as const
  await fails(t, door, expected)
  await fails(t, door, expected, 'POST')
})

test('a name that does not exist', async (t) => {
  const door = await doorTo(t, 'http://no-such-host.invalid', { connectMs: 20_000 })
  await fails(t, door, { status: 502, code: 'name_not_found', orderState: 'not_sent' })
})

test('a connection nobody takes', async (t) => {
  // Frozen, with a backlog that the test fills: the next handshake gets no answer.
  const frozen = spawn(process.execPath, [
    '-e',
    `const s = require('node:net').createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
       console.log(s.address().port); setTimeout(() => process.kill(process.pid, 'SIGSTOP'), 1) })`,
  ])
  const [line] = await once(createInterface(frozen.stdout), 'line')
  const port = Number(line)
  const fillers = []
  for (let connected = true; connected;) {
    const filler = connect(port, '127.0.0.1')
    filler.on('error', () => undefined)
    fillers.push(filler)
    connected = await Promise.race([
      once(filler, 'connect').then(() => true),
      new Promise<boolean>((resolve) => {
        setTimeout(() => resolve(false), 200)
      }),
    ])
  }
  const door = await doorTo(t, `http://127.0.0.1:${port}`, { connectMs: 300 })
  const expected = { status: 504, code: 'connect_timeout', orderState: 'not_sent' } as const
  await fails(t, door, expected)
  await fails(t, door, expected, 'POST')
  for (const filler of fillers) filler.destroy()
  frozen.kill('SIGKILL')
})

test('reset after the request, and an end without an answer', async (t) => {
  for (const way of ['resetAndDestroy', 'end'] as const) {
    const upstream = await rawStub(t, async (socket) => {
      await headOf(socket)
      socket[way]()
    })
    const door = await doorTo(t, upstream.origin)
    await fails(t, door, { status: 502, code: 'head_reset', orderState: 'unknown' }, 'POST')
  }
})

test('no answer in time: the upstream connection is closed too', async (t) => {
  let closed: Promise<unknown> | undefined
  const upstream = await rawStub(t, async (socket) => {
    closed = once(socket, 'end')
    await headOf(socket)
  })
  const door = await doorTo(t, upstream.origin, { headMs: 300 })
  await fails(t, door, { status: 504, code: 'head_timeout', orderState: 'unknown' }, 'POST')
  await closed
  t.pass()
})

test('an upstream that stops taking a body', async (t) => {
  const upstream = await rawStub(t, (socket) => void socket.pause())
  const door = await doorTo(t, upstream.origin, { idleMs: 300 })
  const answer = await fetchFrom(door.port, '/', {
    method: 'POST',
    onRequest: (sent) => void sent.write(Buffer.alloc(30_000_000)),
  })
  t.is(answer.status, 504)
  t.regex(answer.body.toString(), /body_timeout.*"order_state":"unknown"/)
})

test('a client that stops sending', async (t) => {
  const upstream = await httpStub(t, (request) => void request.resume())
  const door = await doorTo(t, upstream.origin, { idleMs: 300 })
  const client = new RawClient(door.port)
  client.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf')
  t.regex(await client.until('trace_id'), /^HTTP\/1\.1 408 [^]*client_too_slow/)
  await client.closed
})

test('reset in the middle of a body', async (t) => {
  const upstream = await rawStub(t, async (socket) => {
    await headOf(socket, () => socket.resetAndDestroy())
  })
  const door = await doorTo(t, upstream.origin)
  const answer = await fetchFrom(door.port, '/', {
    method: 'POST',
    headers: { 'Content-Length': 5_000_000 },
    onRequest: (sent) => void sent.write(Buffer.alloc(1_000_000)),
  })
  t.is(answer.status, 502)
  t.regex(answer.body.toString(), /body_reset.*"order_state":"unknown"/)
})

test('too many: some wait, the rest are answered at once, and nobody waits for ever', async (t) => {
  const held: (() => void)[] = []
  let seen: (() => void) | undefined
  const arrived = new Promise<void>((resolve) => {
    seen = resolve
  })
  const upstream = await httpStub(t, (_request, response) => {
    held.push(() => response.end('ok'))
    seen?.()
  })
  const one = { limit: 1, waiting: 1 }
  const door = await doorTo(t, upstream.origin, {
    waitMs: 300,
    places: { page: one, write: one, upload: one, stream: one },
  })
  const first = fetchFrom(door.port, '/1')
  await arrived
  // The first to arrive waits, and the other finds the queue full. Which is which is the network's choice.
  const others = [fetchFrom(door.port, '/2'), fetchFrom(door.port, '/3')]
  const refused = await Promise.race(others)
  t.is(refused.status, 503)
  t.is(refused.headers['retry-after'], '1')
  t.regex(refused.body.toString(), /overloaded.*"order_state":"not_sent"/)
  t.is(door.listener.numbers().places['page']?.waiting, 1)
  t.deepEqual(
    (await Promise.all(others)).map((each) => each.status),
    [503, 503],
  )
  // Another class has places of its own.
  const write = fetchFrom(door.port, '/4', { method: 'POST' })
  while (held.length < 2) await new Promise(setImmediate)
  for (const release of held) release()
  t.is((await write).status, 200)
  t.is((await first).status, 200)
  // The place came back.
  const last = fetchFrom(door.port, '/5')
  while (held.length < 3) await new Promise(setImmediate)
  held[2]?.()
  t.is((await last).status, 200)
  t.is(door.listener.numbers().places['page']?.taken, 0)
})
