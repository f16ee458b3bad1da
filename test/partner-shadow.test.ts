import { createHash } from 'node:crypto'
import { readdir } from 'node:fs/promises'

import test from 'ava'

import type { ShadowReport } from '../adapters/partners/shadow-report.ts'
import { fetchFrom, RawClient } from '../strangler-proxy/stub-client.ts'
import { call, formBytes, type OrderParts, partnerKeys, submit } from './partner-fixture.ts'
import {
  fieldsWith,
  model,
  numberIn,
  play,
  type ShadowEstate,
  startShadowEstate,
} from './partner-shadow-fixture.ts'
import { waitUntil } from './wait-until.ts'

/*
 * A partner at the MES orders, and the intake says in quarantine what it would have answered. Nobody gets an order by that.
 */

let world: ShadowEstate

test.before(async () => {
  world = await startShadowEstate()
})
test.after.always(() => world?.stop())

const good: readonly (() => OrderParts)[] = [
  () => ({ fields: fieldsWith({ comment: 'ü\r\n--x' }), model }),
  () => ({ fields: fieldsWith(), model, modelFirst: true }),
  () => ({ fields: fieldsWith({ comment: '' }), model: Buffer.alloc(300_000, 7) }),
  () => ({ fields: fieldsWith({ colour: 'c'.repeat(40_000), id: '7' }), model }),
  () => ({ fields: fieldsWith({ material: '  PLA ', quantity: ' 3 ' }), model }),
  () => ({ fields: [...fieldsWith(), ['quantity', '5']], model }),
  () => ({ fields: fieldsWith({ comment: 'c'.repeat(10_000) }), model }),
]

const wrong: readonly (readonly [status: number, parts: () => OrderParts])[] = [
  [400, () => ({ fields: fieldsWith() })],
  [400, () => ({ fields: fieldsWith(), model: Buffer.alloc(0) })],
  [400, () => ({ fields: fieldsWith({ model: 'text' }) })],
  [400, () => ({})],
  [400, () => ({ fields: fieldsWith({}, '   '), model })],
  [400, () => ({ fields: [['external_id', 'x'] as const], model })],
  [400, () => ({ fields: fieldsWith({ quantity: 'two' }), model })],
  [400, () => ({ fields: fieldsWith({ quantity: '1000001' }), model })],
  [400, () => ({ fields: fieldsWith({}, 'e'.repeat(201)), model })],
  [413, () => ({ fields: fieldsWith({ comment: 'c'.repeat(10_001) }), model })],
  [413, () => ({ fields: fieldsWith({ comment: 'c'.repeat(30_000) }), model, modelFirst: true })],
  [400, () => ({ fields: fieldsWith({ comment: 'a\0b' }), model })],
  [400, () => ({ fields: [...fieldsWith(), ['comment', Buffer.from([0xff])] as const], model })],
  [400, () => ({ fields: Array.from({ length: 60 }, (_, n) => [`f${n}`, 'x'] as const), model })],
]

const brokenBodies: readonly (readonly [body: (valid: Buffer) => Buffer, type?: string])[] = [
  [(valid) => valid.subarray(0, valid.length / 2)],
  [(valid) => valid.subarray(0, -8)],
  [() => Buffer.from('no form at all')],
  [() => Buffer.alloc(0)],
  [() => Buffer.from('{"external_id":"x"}'), 'application/json'],
  [(valid) => valid, 'multipart/form-data'],
  [() => Buffer.from('--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n')],
  [() => Buffer.from('--x??\r\n\r\na\r\n--x--\r\n')],
  [() => Buffer.from(`--x\r\nA: ${'b'.repeat(20_000)}`)],
]

test.serial(
  'good orders and every kind of refusal: the intake would answer the same',
  async (t) => {
    const orders = good.length
    const refused = wrong.length + brokenBodies.length + 1
    const counts = await world.counted('Acme', 'POST /orders', orders + refused, async () => {
      for (const parts of good) {
        const { status, text } = await submit(world.doorApi, partnerKeys.Acme, parts())
        t.is(status, 201, text)
      }
      for (const [status, parts] of wrong) {
        const answer = await submit(world.doorApi, partnerKeys.Acme, parts())
        t.is(answer.status, status, answer.text)
      }
      for (const [body, type] of brokenBodies) {
        const valid = formBytes({ fields: fieldsWith(), model, boundary: 'x' })
        const { status } = await call(`${world.doorApi}/orders`, {
          method: 'POST',
          headers: { 'x-api-key': partnerKeys.Acme, 'content-type': type ?? valid.contentType },
          body: new Uint8Array(body(valid.body)),
        })
        t.true(status >= 400 && status < 500)
      }
      // Refused by its head: not a byte of the body was seen.
      const client = new RawClient(Number(new URL(world.doorApi).port)).write(
        `POST /api/partner/v1/orders HTTP/1.1\r\nHost: a\r\nX-Api-Key: ${partnerKeys.Acme}\r\n` +
          'Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 120000000\r\n\r\n',
      )
      t.regex(await client.until('\r\n\r\n'), /^HTTP\/1\.1 413 /)
      client.socket.destroy()
    })
    t.deepEqual(await world.differencesOf('Acme'), [])
    t.deepEqual(counts, {
      eligible: orders + refused,
      compared: orders + refused,
      differing: 0,
      dropped: 0,
    })
  },
)

test.serial('nothing was stored of it, and nobody was asked for an order twice', async (t) => {
  t.is(await numberIn(world.mes, `SELECT count(*) FROM orders WHERE partner = 'Acme'`), good.length)
  for (const table of ['partner_order', 'answer', 'outbox'])
    t.is(await numberIn(world.intake, `SELECT count(*) FROM ${table}`), 0, table)
  // Uses of keys are noted in turns: once another one is, these would be.
  const used = 'SELECT count(*) FROM api_key WHERE last_used_at IS NOT NULL'
  const bolt = { headers: { 'x-api-key': partnerKeys.Bolt } }
  t.is((await call(`${world.intakeApi}/orders`, bolt)).status, 200)
  await waitUntil('a use is noted', async () => (await numberIn(world.intake, used)) > 0)
  t.is(await numberIn(world.intake, used), 1, 'no key was used but that one')
  const files = await readdir(world.intakeModels, { recursive: true, withFileTypes: true })
  t.deepEqual(
    files.filter((file) => file.isFile()).map(({ name }) => name),
    [],
  )
})

test.serial(
  'an order that was answered before it was seen is compared if it was seen enough of',
  async (t) => {
    let enough = 0
    const hasty = await play(t, (request, response) => {
      let seen = 0
      request.on('data', (chunk: Buffer) => {
        seen += chunk.length
        if (seen < enough) return
        response.writeHead(413, { 'content-type': 'application/json; charset=utf-8' })
        response.end('{"error":"comment is too long"}')
      })
    })
    const { port } = await world.proxyTo(t, { MES_UPSTREAM: hasty.origin })
    // Of the first the intake needs no more than its beginning, of the second all.
    for (const [comment, ends] of [
      ['c'.repeat(10_001), { compared: 1, dropped: 0 }],
      ['short', { compared: 0, dropped: 1 }],
    ] as const) {
      const counts = await world.counted('Acme', 'POST /orders', 1, async () => {
        const { body, contentType } = formBytes({
          fields: fieldsWith({ comment }),
          model: Buffer.alloc(1000),
        })
        enough = body.length - 500
        const client = new RawClient(port).write(
          `POST /api/partner/v1/orders HTTP/1.1\r\nHost: a\r\nX-Api-Key: ${partnerKeys.Acme}\r\n` +
            `Content-Type: ${contentType}\r\nContent-Length: ${body.length}\r\n\r\n`,
        )
        client.write(body.subarray(0, -500))
        t.regex(await client.until('too long'), /^HTTP\/1\.1 413 /)
        client.socket.destroy()
      })
      t.like(counts, { eligible: 1, differing: 0, ...ends })
    }
  },
)

test.serial('who is no partner here, and what is no order, is not looked at', async (t) => {
  const everything = 'SELECT coalesce(sum(eligible), 0) FROM partner_shadow_count'
  const before = await numberIn(world.intake, everything)
  const parts = { fields: fieldsWith(), model }
  t.is((await submit(world.doorApi, 'key-of-nobody', parts)).status, 401)
  t.is((await call(`${world.doorApi}/orders`, { method: 'POST' })).status, 401)
  t.is(
    (await call(`${world.doorApi}/orders`, { headers: { 'x-api-key': partnerKeys.Acme } })).status,
    200,
  )
  // What comes later is booked later: once it is there, the others would be.
  await world.counted('Acme', 'POST /orders', 1, () =>
    submit(world.doorApi, partnerKeys.Acme, parts),
  )
  t.is((await numberIn(world.intake, everything)) - before, 1)
})

test.serial('no door leads to the quarantine, and every door takes its header off', async (t) => {
  const heard: string[] = []
  const played = await play(t, (request, response) => {
    heard.push(`${request.method} ${request.url} ${String(request.headers['x-strangler-shadow'])}`)
    response.end('{}')
  })
  const { port } = await world.proxyTo(t, { MES_UPSTREAM: played.origin })
  const asked = { 'x-strangler-shadow': 'ask', 'content-type': 'application/json' }
  const body = JSON.stringify({
    apiKeySha256: createHash('sha256').update(partnerKeys.Bolt).digest('hex'),
    headers: {},
    parts: [],
    end: 'whole',
    lastIsBroken: false,
  })
  const paths = [
    '/shadow/orders',
    '/api/partner/v1/shadow/orders',
    '/api/partner/v1/../../../shadow/orders',
    '/api/partner/v1/%2e%2e/%2e%2e/%2e%2e/shadow/orders',
    '/api/partner/v1//shadow/orders',
  ]
  for (const path of paths) {
    const headers = { ...asked, 'x-api-key': partnerKeys.Bolt }
    const answer = await fetchFrom(port, path, { method: 'POST', headers, body })
    t.is(answer.headers['x-strangler-shadow'], undefined, path)
  }
  t.true(heard.length > 0)
  t.true(
    heard.every((line) => line.endsWith(' undefined')),
    heard.join('\n'),
  )
  // It is there, for whoever is inside.
  const inside = `http://127.0.0.1:${world.estate.process('intake').port}/shadow/orders`
  const found = await call(inside, { method: 'POST', headers: asked, body })
  t.is(found.headers.get('x-strangler-shadow'), 'answer')
  t.deepEqual([found.status, found.text], [400, '{"error":"model is missing"}'])
  const without = { 'content-type': 'application/json' }
  t.is((await call(inside, { method: 'POST', headers: without, body })).status, 404)
})

test.serial(
  'another answer is found: by partner, call and field, and without a word of a person',
  async (t) => {
    const secret = 'for Zelda Quuxington'
    const parts = (id: string) => ({ fields: fieldsWith({ comment: secret }, id), model })
    const counts = await world.counted('Strict', 'POST /orders', 1, async () => {
      t.is((await submit(world.doorApi, partnerKeys.Strict, parts('no-key'))).status, 201)
    })
    t.like(counts, { compared: 1, differing: 1, dropped: 0 })
    const made = await world.mes.query<{ id: string }>(
      `SELECT order_id AS id FROM orders WHERE external_id = 'no-key'`,
    )
    t.deepEqual(await world.differencesOf('Strict'), [
      {
        endpoint: 'POST /orders',
        order: made.rows[0]!.id,
        field: 'http_status',
        ours: '400 idempotency_key_missing',
        theirs: '201',
      },
    ])

    // An intake that answers each field otherwise.
    const played = await play(t, (request, response) => {
      request.resume().on('end', () => {
        response.setHeader('x-strangler-shadow', 'answer')
        response.setHeader('content-type', 'text/plain')
        response.statusCode = 201
        response.end(JSON.stringify({ id: 7, external_id: `about ${secret}`, note: 'Quux senior' }))
      })
    })
    const { api } = await world.proxyTo(t, { INTAKE_UPSTREAM: played.origin })
    await world.counted('Acme', 'POST /orders', 1, () =>
      submit(api, partnerKeys.Acme, parts('a-1')),
    )
    const found = await world.differencesOf('Acme')
    t.deepEqual(found.map(({ field }) => field).toSorted(), [
      'content_type',
      'external_id',
      'id',
      'note',
      'status',
    ])
    t.like(
      found.find(({ field }) => field === 'status'),
      { ours: null, theirs: 'SUBMITTED' },
    )
    t.like(
      found.find(({ field }) => field === 'id'),
      { ours: 'number', theirs: 'string' },
    )
    t.regex(found.find(({ field }) => field === 'external_id')?.ours ?? '', /^sha256:/)
    t.notRegex(JSON.stringify(found), /Zelda|Quux/)
    // Refused by the MES for its number, which is cut in the middle of a character to be kept.
    const long = `${'e'.repeat(199)}😀`
    await world.counted('Acme', 'POST /orders', 1, () => submit(api, partnerKeys.Acme, parts(long)))
    const last = (await world.differencesOf('Acme')).at(-1)
    t.like(last, { field: 'http_status', order: `${'e'.repeat(199)}\uFFFD`, ours: '201' })
    const said = world.estate.process('proxy').output
    t.notRegex(said.last(1000).join('\n'), /Zelda|key-acme/)
  },
)

test.serial('the commands say it, and let no partner enter with a difference', async (t) => {
  const { estate } = world
  const why = ['--why', 'a test'] as const
  const said = await estate.strangler('parity', 'partner-intake', '--json')
  t.is(said.code, 1, said.stderr)
  const { verdict, shadow }: { verdict: string; shadow: ShadowReport[] } = JSON.parse(said.stdout)
  t.is(verdict, 'differences')
  const strict = shadow.find(({ partner }) => partner === 'Strict')
  t.like(strict, { endpoint: 'POST /orders', eligible: 1, compared: 1, differing: 1, dropped: 0 })
  t.like(strict?.fields[0], { field: 'http_status', differences: 1 })
  const people = await estate.strangler('parity', 'partner-intake')
  t.regex(people.stdout, /Strict +POST \/orders +1 +1 +1 +100\.00 % +0/)
  t.regex(people.stdout, /DIFFERENCES in answers: .*Strict POST \/orders http_status/)

  const refused = await estate.strangler('partner', 'enter', 'Strict', ...why)
  t.is(refused.code, 2)
  t.regex(refused.stderr, /POST \/orders http_status of .*400 idempotency_key_missing, theirs 201/)
  t.regex(refused.stderr, /--accept <field>/)
  t.is(
    await numberIn(
      world.intake,
      `SELECT count(*) FROM partner WHERE id = 'Strict' AND route = 'mes'`,
    ),
    1,
  )

  const accepted = ['--accept', 'http_status', '--until', '1d', ...why]
  t.is((await estate.strangler('parity', 'partner-intake', ...accepted)).code, 0)
  const few = await estate.strangler('partner', 'enter', 'Strict', '--minimum', '2', ...why)
  t.is(few.code, 2)
  t.regex(few.stderr, /compared 1 orders of Strict in the last 7 days, and 2 are wanted/)
  const entered = await estate.strangler('partner', 'enter', 'Strict', '--minimum', '1', ...why)
  t.is(entered.code, 0, entered.stderr)
  t.regex(entered.stdout, /had compared 1 of its orders in the last 7 days, 1 with an accepted/)
  await world.forgetDifferences()
  const clean = await estate.strangler('parity', 'partner-intake')
  t.is(clean.code, 0, clean.stdout)
  t.regex(clean.stdout, /no difference$/m)
})
