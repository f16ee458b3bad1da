import { createHash, randomBytes } from 'node:crypto'

import test from 'ava'

import { Backend } from './backend.ts'
import { type DoorUnderTest, doorTo } from './door-under-test.ts'
import { hopOfPass } from './hop-of-pass.ts'
import { httpProxyMiddlewareUpstream } from './http-proxy-middleware-upstream.ts'
import { defaultLimits } from './limits.ts'
import { MesWrite, type PartnerSide } from './partner-routes.ts'
import { PartnerSeam } from './partner-seam.ts'
import { fetchFrom, RawClient } from './stub-client.ts'
import { httpStub, type Teardown } from './stub-upstream.ts'

const keys: Readonly<Record<string, PartnerSide>> = {
  'key-mes': 'mes',
  'key-entering': 'entering',
  'key-intake': 'intake',
}
const orders = '/api/partner/v1/orders'

interface SeamUnderTest extends DoorUnderTest {
  /** What may be said of the routes now. */
  readonly state: { known: boolean; lapsed: boolean }
  readonly writes: { readonly outcome: string | undefined }[]
}

const nothing = (): void => undefined

/** A door with the MES and the intake behind it; each says who it is, and gives back what it was sent. */
async function seam(t: Teardown, onChunk = nothing): Promise<SeamUnderTest> {
  const [mes, intake] = await Promise.all(
    ['mes', 'intake'].map((name) =>
      httpStub(t, (request, response) => {
        const chunks: Buffer[] = []
        request.on('error', nothing)
        request.on('data', (chunk: Buffer) => {
          onChunk()
          chunks.push(chunk)
        })
        request.on('end', () => {
          response.setHeader('X-Side', name)
          response.setHeader('X-Was-Asked', `${request.method} ${request.url}`)
          response.end(Buffer.concat(chunks))
        })
      }),
    ),
  )
  const state = { known: true, lapsed: false }
  const writes: { outcome: string | undefined }[] = []
  const behind = new Backend(
    'intake',
    httpProxyMiddlewareUpstream(intake!.origin),
    defaultLimits.places,
  )
  const partners = new PartnerSeam(behind, {
    sideOf: (key) => (state.known ? (keys[key] ?? 'mes') : undefined),
    beginMesWrite: () => {
      const kept: { outcome: string | undefined } = { outcome: undefined }
      writes.push(kept)
      return new (class extends MesWrite {
        override end(outcome: Parameters<MesWrite['end']>[0]): void {
          kept.outcome = outcome
        }
      })(1, () => !state.lapsed, nothing)
    },
  })
  const door = await doorTo(t, mes!.origin, {}, [], partners)
  return { ...door, state, writes }
}

async function sideThatAnswers(
  door: DoorUnderTest,
  method: string,
  key: string | undefined,
  path = orders,
): Promise<unknown> {
  const { headers } = await fetchFrom(door.port, path, {
    method,
    headers: key === undefined ? {} : { 'x-api-key': key },
  })
  return headers['x-side']
}

test('a partner decides about its calls alone: writes and reads by its route, unknown keys to the MES', async (t) => {
  const door = await seam(t)
  for (const [key, writes, reads] of [
    ['key-mes', 'mes', 'mes'],
    ['key-entering', 'intake', 'mes'],
    ['key-intake', 'intake', 'intake'],
    ['key-nobody', 'mes', 'mes'],
    ['key-intake, key-mes', 'mes', 'mes'],
    [undefined, 'mes', 'mes'],
  ] as const) {
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE'])
      t.is(await sideThatAnswers(door, method, key), writes, `${method} ${key}`)
    t.is(await sideThatAnswers(door, 'GET', key), reads, `GET ${key}`)
    t.is(await sideThatAnswers(door, 'HEAD', key), reads, `HEAD ${key}`)
  }
  t.is(await sideThatAnswers(door, 'POST', 'key-intake', '/API/partner/v1/orders'), 'intake')
  for (const path of ['/', '/orders/1/take', '/api/partner/v2/orders'])
    t.is(await sideThatAnswers(door, 'POST', 'key-intake', path), 'mes', path)
  // Writes that went to the MES by way of the partners: four of each key that it takes, none of a page.
  t.is(door.writes.length, 4 * 4)
  t.true(door.writes.every(({ outcome }) => outcome === 'passed'))
})

test('an upload arrives unchanged at either side, and so does the answer; the target is passed on as it came', async (t) => {
  const door = await seam(t)
  const model = randomBytes(3_000_000)
  const body = Buffer.concat([
    Buffer.from(
      '--b\r\nContent-Disposition: form-data; name="model"; filename="кольцо.stl"\r\n\r\n',
    ),
    model,
    Buffer.from('\r\n--b--\r\n'),
  ])
  const sent = createHash('sha256').update(body).digest('hex')
  for (const [key, side] of [
    ['key-mes', 'mes'],
    ['key-intake', 'intake'],
  ] as const) {
    const answer = await fetchFrom(door.port, `${orders}?a=%20b&c=%C3%BC`, {
      method: 'POST',
      headers: { 'x-api-key': key, 'content-type': 'multipart/form-data; boundary=b' },
      body,
    })
    t.is(answer.headers['x-side'], side)
    t.is(answer.headers['x-was-asked'], `POST ${orders}?a=%20b&c=%C3%BC`)
    t.is(createHash('sha256').update(answer.body).digest('hex'), sent)
  }
})

test('without a word on the routes partners are sent away, and pages go on', async (t) => {
  const door = await seam(t)
  door.state.known = false
  for (const key of Object.keys(keys)) {
    for (const method of ['GET', 'POST']) {
      const refused = await fetchFrom(door.port, orders, { method, headers: { 'x-api-key': key } })
      t.is(refused.status, 503)
      t.is(refused.headers['retry-after'], '1')
      t.like(JSON.parse(refused.body.toString()), {
        type: 'urn:strangler-proxy:partner_route_unknown',
        order_state: 'not_sent',
      })
    }
  }
  for (const path of ['/', '/orders/1/take', '/api/orders'])
    t.is((await fetchFrom(door.port, path, { method: 'POST' })).headers['x-side'], 'mes')
})

test('an upload that nobody was told of goes no further after the lease', async (t) => {
  let begun = nothing
  const arrived = new Promise<void>((resolve) => {
    begun = resolve
  })
  const door = await seam(t, () => begun())
  const client = new RawClient(door.port).write(
    `POST ${orders} HTTP/1.1\r\nHost: a\r\nX-Api-Key: key-mes\r\nContent-Length: 10\r\n\r\nfive `,
  )
  await arrived
  door.state.lapsed = true
  client.write('more!')
  await client.closed
  t.regex(client.text, /^HTTP\/1\.1 503 [^]*partner_route_lapsed[^]*"order_state":"unknown"/)
  await door.over(1)
  t.is(door.writes[0]?.outcome, 'partner_route_lapsed')
})

test('the step of an order says who answered; no key is in a step or in the log', async (t) => {
  const door = await seam(t)
  const order = '3f2b8c1e-9a4d-4e6f-8b7a-0123456789ab'
  await sideThatAnswers(door, 'DELETE', 'key-intake', `${orders}/${order}`)
  await sideThatAnswers(door, 'DELETE', 'key-mes', `${orders}/${order}`)
  door.state.known = false
  await sideThatAnswers(door, 'POST', 'key-intake')
  const passed = await door.over(2)
  const hops = passed.map((each) => hopOfPass('shop', each))
  t.deepEqual(
    hops.map((hop) => hop?.detail?.['side']),
    ['intake', undefined],
  )
  t.true(door.logged.length > 0)
  t.notRegex(JSON.stringify([hops, door.logged]), /key-/)
})
