import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { Agent, request as httpRequest } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

import test from 'ava'

import { spawnDoor } from './spawned-door.ts'
import { RawClient, fetchFrom } from './stub-client.ts'
import { httpStub } from './stub-upstream.ts'

const megabytes = 1_000_000
const residentMemory = 'process_resident_memory_bytes'
const block = Buffer.alloc(megabytes, 'a model of a ring ')

/** Sends or takes so many megabytes through the door; resolves with the hash at the receiving end. */
async function transfer(port: number, direction: 'up' | 'down', count: number): Promise<string> {
  const sent = httpRequest({
    host: '127.0.0.1',
    port,
    path: `/${count}`,
    method: direction === 'up' ? 'PUT' : 'GET',
  })
  const answered = once(sent, 'response')
  if (direction === 'up') {
    for (let n = 0; n < count; n += 1) if (!sent.write(block)) await once(sent, 'drain')
  }
  sent.end()
  const answer: IncomingMessage = (await answered)[0]
  const hash = createHash('sha256')
  let text = ''
  for await (const chunk of answer) {
    if (direction === 'down') hash.update(chunk)
    else text += String(chunk)
  }
  return direction === 'up' ? text : hash.digest('hex')
}

function getting(path: string): string {
  return `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`
}

function hashOf(count: number): string {
  const hash = createHash('sha256')
  for (let n = 0; n < count; n += 1) hash.update(block)
  return hash.digest('hex')
}

test.serial(
  '200 MB up and 200 MB down arrive unchanged, and the process does not grow with them',
  async (t) => {
    const upstream = await httpStub(t, async (request, response) => {
      if (request.method === 'PUT') {
        const hash = createHash('sha256')
        for await (const chunk of request) hash.update(chunk)
        response.end(hash.digest('hex'))
        return
      }
      const count = Number(request.url?.slice(1))
      for (let n = 0; n < count; n += 1) if (!response.write(block)) await once(response, 'drain')
      response.end()
    })
    const door = await spawnDoor(t, upstream.origin)
    for (const direction of ['up', 'down'] as const) await transfer(door.ports.mes, direction, 20)
    const before = await door.metric(residentMemory)
    let most = before
    const over = new AbortController()
    const watch = async (): Promise<void> => {
      while (!over.signal.aborted) {
        most = Math.max(most, await door.metric(residentMemory))
        await sleep(20)
      }
    }
    const watching = watch()
    const expected = hashOf(200)
    t.is(await transfer(door.ports.mes, 'up', 200), expected)
    t.is(await transfer(door.ports.mes, 'down', 200), expected)
    over.abort()
    await watching
    t.log(
      `resident: ${Math.round(before / megabytes)} MB before, ${Math.round(most / megabytes)} MB at most`,
    )
    t.true(most - before < 64 * megabytes, `${most - before} bytes more`)
  },
)

test.serial('says its ports, is ready, and ends clean in the middle of everything', async (t) => {
  const held: (() => void)[] = []
  const upstream = await httpStub(t, (request, response) => {
    if (request.url === '/events') {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' })
      response.write('data: 1\n\n')
    } else if (request.url === '/slow') {
      held.push(() => response.end('done'))
    } else {
      response.end('ok')
    }
  })
  const door = await spawnDoor(t, upstream.origin)
  t.regex(door.stdout, /^\{"listening":\{"shop":\d+,"crm":\d+,"mes":\d+,"admin":\d+\}\}\n/)
  t.deepEqual(await door.admin('/health'), { status: 200, body: { status: 'ok' } })
  t.deepEqual(await door.admin('/ready'), { status: 200, body: { ready: true } })

  const idle = new RawClient(door.ports.shop).write(getting('/'))
  await idle.until('ok')
  const stream = new RawClient(door.ports.mes).write(getting('/events'))
  await stream.until('data: 1')
  const slow = new RawClient(door.ports.crm).write(getting('/slow'))
  while (held.length === 0) await sleep(5)
  const inFlight = (at: string): Promise<number> =>
    door.metric(`strangler_proxy_in_flight{door="${at}"}`)
  t.deepEqual(await Promise.all(['shop', 'crm', 'mes'].map(inFlight)), [0, 1, 1])

  door.terminate()
  await idle.closed
  t.deepEqual(await door.admin('/ready'), { status: 503, body: { ready: false } })
  await t.throwsAsync(fetchFrom(door.ports.shop, '/'), { code: 'ECONNREFUSED' })
  held[0]?.()
  t.regex(await slow.until('done'), /\r\nConnection: close\r\n[^]*done/)
  await slow.closed
  await stream.closed
  t.false(stream.text.includes('\r\n0\r\n'), 'a cut stream is no clean end')
  t.is(await door.exited, 0)
})

test.serial('two replicas restart in turn under load, and no request fails', async (t) => {
  let served = 0
  const upstream = await httpStub(t, (request, response) => {
    request.resume()
    request.on('end', () => {
      served += 1
      response.end('ok')
    })
  })
  const start = () => spawnDoor(t, upstream.origin, { DRAIN_NOTICE_MS: '300' })
  const replicas = [await start(), await start()]
  const agent = new Agent({ keepAlive: true })
  // A load balancer that asks for readiness every 20 ms.
  let ready = [true, true]
  const over = new AbortController()
  const probe = async (): Promise<void> => {
    while (!over.signal.aborted) {
      ready = await Promise.all(
        replicas.map((each) =>
          each.admin('/ready').then(
            ({ status }) => status === 200,
            () => false,
          ),
        ),
      )
      await sleep(20)
    }
  }
  const probing = probe()
  let sent = 0
  const failed: string[] = []
  const send = async (n: number): Promise<void> => {
    const target = replicas[ready[n % 2] === true ? n % 2 : (n + 1) % 2]
    const method = n % 3 === 0 ? 'POST' : 'GET'
    const answer = await fetchFrom(target?.ports.shop ?? 0, '/', { method, agent }).catch(
      (error: unknown) => String(error),
    )
    const how = typeof answer === 'string' ? answer : `${answer.status}`
    if (how !== '200') failed.push(how)
  }
  const inFlight: Promise<void>[] = []
  const load = setInterval(() => inFlight.push(send(sent++)), 5)
  for (const turn of [0, 1]) {
    await sleep(200)
    replicas[turn]?.terminate()
    t.is(await replicas[turn]?.exited, 0)
    replicas[turn] = await start()
    while (ready[turn] !== true) await sleep(20)
  }
  await sleep(200)
  clearInterval(load)
  await Promise.all(inFlight)
  over.abort()
  await probing
  agent.destroy()
  t.deepEqual(failed, [])
  t.is(served, sent)
  t.true(sent > 100, `${sent} requests`)
  t.log(`${sent} requests`)
})
