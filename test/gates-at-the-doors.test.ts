import { createServer, request } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'

import test from 'ava'

import type { Door } from '../adapters/gates/gate-settings.ts'
import { OverheadProbe, isBusyMachine, judgeOverhead } from '../adapters/gates/overhead.ts'
import { judgePages, readPages } from '../adapters/gates/pages.ts'
import type { GateResult, Verdict } from '../flags/gates.ts'
import { spawnDoor } from '../strangler-proxy/spawned-door.ts'
import { httpStub, type Teardown } from '../strangler-proxy/stub-upstream.ts'
import { waitUntil } from './wait-until.ts'

/**
 * The real proxy, and before it a forwarder that harms: what it does to a page or to the time is red, and what a legacy system
 * does by itself from request to request is not.
 */
interface Harm {
  delayMs?: number
  head?(headers: string[]): string[]
  body?(body: Buffer): Buffer
}

let requests = 0

/** A legacy system with a session, another one for each request, and a clock in a header. */
function legacy(incoming: IncomingMessage, response: ServerResponse): void {
  requests += 1
  if (incoming.url === '/clock') {
    response.end(`served ${requests} times`)
    return
  }
  response.writeHead(
    incoming.url === '/moved' ? 302 : 200,
    [
      ['Content-Type', 'text/html; charset=utf-8'],
      ['Set-Cookie', `session=${requests}; Path=/; HttpOnly; SameSite=Lax`],
      ['Set-Cookie', 'theme=dark; Path=/'],
      ['X-Request-Id', `${requests}`],
      ['Vary', 'Accept'],
      ['Vary', 'Cookie'],
      ...(incoming.url === '/moved' ? [['Location', `http://${incoming.headers.host}/login`]] : []),
    ].flat(),
  )
  response.end(`<title>Log in</title>${'x'.repeat(2000)}`)
}

async function forwarder(t: Teardown, to: string, harm: Harm): Promise<string> {
  const server: Server = createServer((incoming, outgoing) => {
    const onward = request(
      `${to}${incoming.url}`,
      { method: incoming.method, headers: incoming.headers },
      (answer) => {
        const chunks: Buffer[] = []
        answer.on('data', (chunk: Buffer) => chunks.push(chunk))
        answer.on('end', () => {
          const body = harm.body?.(Buffer.concat(chunks)) ?? Buffer.concat(chunks)
          const head = harm.head?.(answer.rawHeaders) ?? answer.rawHeaders
          setTimeout(() => {
            outgoing.writeHead(answer.statusCode ?? 502, head)
            outgoing.end(body)
          }, harm.delayMs ?? 0)
        })
      },
    )
    onward.on('error', () => outgoing.destroy())
    onward.end()
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  t.teardown(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no TCP port')
  return `http://127.0.0.1:${address.port}`
}

const minimum = 20

async function doorsOf(t: Teardown, harm?: Harm, pages: readonly string[] = ['/', '/moved']) {
  const upstream = await httpStub(t, legacy)
  const { ports } = await spawnDoor(t, upstream.origin)
  const proxy = `http://127.0.0.1:${ports.shop}`
  const door = harm === undefined ? proxy : await forwarder(t, proxy, harm)
  return [{ name: 'Shop', door, upstream: upstream.origin, pages }] as const satisfies Door[]
}

test.serial('the real proxy changes nothing of a page with a session', async (t) => {
  const result = judgePages(await readPages(await doorsOf(t), 5000), minimum)
  t.is(result.verdict, 'PASS', result.says)
  t.regex(result.says, /not compared: Shop \/ header x-request-id/)
})

const without =
  (name: string, which = 1) =>
  (headers: string[]): string[] => {
    let met = 0
    return headers.flatMap((each, at) => {
      if (at % 2 === 1) return []
      if (each.toLowerCase() === name) met += 1
      return each.toLowerCase() === name && met === which ? [] : [each, headers[at + 1]!]
    })
  }

const replacing =
  (from: string | RegExp, to: string) =>
  (headers: string[]): string[] =>
    headers.map((each) => each.replace(from, to))

const harms: readonly (readonly [string, Harm, RegExp])[] = [
  [
    'one Set-Cookie is dropped',
    { head: without('set-cookie', 2) },
    /Shop \/: 1 set-cookie headers instead of 2/,
  ],
  [
    'an attribute of a cookie is lost',
    { head: replacing('; HttpOnly', '') },
    /cookie session has Path=\/; SameSite=Lax instead of Path=\/; HttpOnly; SameSite=Lax/,
  ],
  [
    'the value of a steady cookie changes',
    { head: replacing('theme=dark', 'theme=light') },
    /another value of cookie theme/,
  ],
  [
    'a header is added',
    { head: (headers) => [...headers, 'Via', '1.1 x'] },
    /1 via headers instead of 0/,
  ],
  ['a header is lost', { head: without('content-type') }, /0 content-type headers instead of 1/],
  [
    'a header changes',
    { head: replacing('utf-8', 'latin1') },
    /header content-type is "text\/html; charset=latin1" instead of/,
  ],
  [
    'repeated headers change places',
    { head: replacing(/^(Accept|Cookie)$/, 'Cookie') },
    /header vary is/,
  ],
  [
    'a byte changes',
    { body: (body) => Buffer.from(body.toString().replace('xxx', 'xyx')) },
    /the body differs from byte \d+ on/,
  ],
]
for (const [what, harm, says] of harms) {
  test.serial(`red: ${what}`, async (t) => {
    const { verdict, says: told } = judgePages(
      await readPages(await doorsOf(t, harm), 5000),
      minimum,
    )
    t.is(verdict, 'FAIL', told)
    t.regex(told, says)
    t.notRegex(told, /session=\d/, 'no session is told')
  })
}

test.serial('a page that differs from itself can not be compared, and is said to be', async (t) => {
  const { verdict, says } = judgePages(
    await readPages(await doorsOf(t, undefined, ['/clock']), 5000),
    minimum,
  )
  t.is(verdict, 'INCONCLUSIVE')
  t.regex(says, /no page of Shop could be compared whole.*the body/)
})

// A machine on which other tests run is measured as what it is: busy.
const budget = { minimum, addedP50Ms: 20, addedP99Ms: 200 }

async function until(probe: OverheadProbe, wanted: Verdict): Promise<GateResult> {
  return waitUntil(`overhead is ${wanted}`, async () => {
    const result = judgeOverhead(await probe.measure(), isBusyMachine(), budget)
    return result.verdict === wanted
      ? result
      : Promise.reject(new Error(`${result.verdict}: ${result.measured}; ${result.says}`))
  })
}

test.serial(
  '50 ms that the way through the proxy adds are red; the proxy alone is not',
  async (t) => {
    const alone = new OverheadProbe({ doors: await doorsOf(t), minimum, timeoutMs: 5000 })
    // A proxy that has just begun is not warm.
    await alone.measure()
    t.teardown(async () => alone.close())
    for (let n = 0; n < 5; n += 1) {
      // On a machine that is busy with other things it may be INCONCLUSIVE.
      const { verdict, measured, says } = judgeOverhead(await alone.measure(), true, budget)
      t.log(verdict, measured)
      t.not(verdict, 'FAIL', `${measured}: ${says}`)
    }

    const slowed = await doorsOf(t, { delayMs: 50 })
    const probe = new OverheadProbe({ doors: slowed, minimum, timeoutMs: 5000 })
    t.teardown(async () => probe.close())
    const slow = await until(probe, 'FAIL')
    t.log(slow.measured)
    t.regex(slow.says, /the proxy adds \d+\.\d ms at p50 to Shop, 20 ms are allowed/)
  },
)

test.serial('what becomes slow while it is watched becomes red', async (t) => {
  const harm: Harm = { delayMs: 0 }
  const probe = new OverheadProbe({ doors: await doorsOf(t, harm), minimum, timeoutMs: 5000 })
  t.teardown(async () => probe.close())
  await probe.measure()
  harm.delayMs = 50
  t.is((await until(probe, 'FAIL')).verdict, 'FAIL')
})
