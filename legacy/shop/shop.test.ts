import { createHash, randomUUID } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { request } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'

import test from 'ava'

import { gateBefore } from '../gate-under-test.ts'
import {
  eventually,
  legacyUnderTest,
  readJson,
  type LegacyUnderTest,
} from '../legacy-under-test.ts'

const longest = 1_000_000
let legacy: LegacyUnderTest
let shop: string

test.before(async () => {
  legacy = await legacyUnderTest()
  shop = (await legacy.start('shop', { SHOP_MODEL_MAX_BYTES: String(longest) })).origin
})
test.after.always(() => legacy?.stop())

type Answer = { status: number; body: Record<string, unknown> & { error?: { code: string } } }

async function call(method: string, url: string, body?: unknown): Promise<Answer> {
  const text = typeof body === 'string' || body === undefined ? body : JSON.stringify(body)
  const response = await fetch(url, {
    method,
    ...(text === undefined ? {} : { body: text, headers: { 'content-type': 'application/json' } }),
  })
  return { status: response.status, body: await readJson<Answer['body']>(response) }
}

async function newOrder(origin = shop): Promise<string> {
  const { body } = await call('POST', `${origin}/api/orders`, { material: 'PLA', quantity: 1 })
  return String(body['id'])
}

async function upload(id: string, body: Buffer | string, headers: Record<string, string> = {}) {
  const response = await fetch(`${shop}/api/orders/${id}/model`, { method: 'PUT', body, headers })
  return { status: response.status, body: await readJson<Answer['body']>(response) }
}

test('an order goes from INITIATED to SUBMITTED, its model into the store under its hash', async (t) => {
  const email = `${randomUUID()}@example.org`
  const person = { email, full_name: 'Zoë', password: 'secret', address: { city: 'Łódź' } }
  const client = await call('POST', `${shop}/api/clients`, person)
  t.is(client.status, 201)
  t.is((await call('POST', `${shop}/api/clients`, person)).body.error?.code, 'email_taken')
  const created = await call('POST', `${shop}/api/orders`, {
    client_id: client.body['id'],
    material: 'PLA',
    quantity: 3,
    comment: '<b>fine</b> 🧱',
  })
  t.is(created.status, 201)
  const id = String(created.body['id'])
  const model = Buffer.from('solid a model')
  const early = await call('POST', `${shop}/api/orders/${id}/submit`)
  t.deepEqual([early.status, early.body.error?.code], [409, 'model_missing'])
  const sha256 = createHash('sha256').update(model).digest('hex')
  const name = `attachment; filename*=UTF-8''${encodeURIComponent('Größe – 模型.stl')}`
  const uploaded = await upload(id, model, { 'content-disposition': name })
  t.deepEqual(uploaded.body, { id, status: 'FILE_UPLOADED', sha256, bytes: model.length })
  for (let again = 0; again < 2; again += 1) {
    const submitted = await call('POST', `${shop}/api/orders/${id}/submit`)
    t.deepEqual(submitted, { status: 200, body: { id, status: 'SUBMITTED' } })
  }
  await legacy.query('shop', `UPDATE orders SET price = 12.30, currency = 'EUR' WHERE id = $1`, [
    id,
  ])
  const { body: order } = await call('GET', `${shop}/api/orders/${id}`)
  t.like(order, { price: '12.30', model_key: `models/${sha256.slice(0, 2)}/${sha256}` })
  t.like(order, { client_id: client.body['id'], model_bytes: model.length, source: 'shop' })
  const page = await (await fetch(`${shop}/orders/${id}`)).text()
  t.true(page.includes('&lt;b&gt;fine&lt;/b&gt;') && page.includes('12.30 EUR'))
  t.is((await upload(id, model)).body.error?.code, 'wrong_status')
})

const good = { material: 'PLA', quantity: 1 }
const refused: [what: string, path: string, body: unknown, status: number, code: string][] = [
  ['JSON cut short', '/api/orders', '{"material":', 400, 'malformed_json'],
  ['no body', '/api/orders', undefined, 422, 'invalid_field'],
  ['a list', '/api/orders', '[]', 400, 'malformed_json'],
  ['a number as text', '/api/orders', { ...good, quantity: '1' }, 422, 'invalid_field'],
  ['quantity zero', '/api/orders', { ...good, quantity: 0 }, 422, 'invalid_field'],
  ['quantity half', '/api/orders', { ...good, quantity: 0.5 }, 422, 'invalid_field'],
  ['quantity beyond int', '/api/orders', { ...good, quantity: 1e12 }, 422, 'invalid_field'],
  ['no material', '/api/orders', { quantity: 1 }, 422, 'invalid_field'],
  ['material an object', '/api/orders', { ...good, material: {} }, 422, 'invalid_field'],
  ['NUL in a comment', '/api/orders', { ...good, comment: 'a\u0000b' }, 422, 'invalid_field'],
  ['client as text', '/api/orders', { ...good, client_id: '1' }, 422, 'invalid_field'],
  ['client unknown', '/api/orders', { ...good, client_id: 999_999 }, 422, 'unknown_client'],
  [
    'body too large',
    '/api/orders',
    { ...good, comment: 'x'.repeat(70_000) },
    413,
    'body_too_large',
  ],
  ['no email', '/api/clients', { full_name: 'A', password: 'b' }, 422, 'invalid_field'],
  [
    'address a list',
    '/api/clients',
    { email: 'a@b', full_name: 'A', password: 'b', address: [] },
    422,
    'invalid_field',
  ],
  [
    'NUL in an address',
    '/api/clients',
    { email: 'a@b', full_name: 'A', password: 'b', address: { a: '\u0000' } },
    422,
    'invalid_field',
  ],
  ['submit: not a uuid', '/api/orders/abc/submit', {}, 404, 'order_not_found'],
  ['submit: a colon', '/api/orders/a:b/submit', {}, 404, 'order_not_found'],
  ['submit: 500 characters', `/api/orders/${'a'.repeat(500)}/submit`, {}, 404, 'order_not_found'],
  [
    'submit: SQL',
    `/api/orders/${encodeURIComponent(`' OR 1=1 --`)}/submit`,
    {},
    404,
    'order_not_found',
  ],
  ['submit: unknown', `/api/orders/${randomUUID()}/submit`, {}, 404, 'order_not_found'],
  ['a broken escape', '/api/orders/%zz/submit', {}, 404, 'not_found'],
  ['no such address', '/api/nothing', {}, 404, 'not_found'],
]

function count() {
  return legacy.query<{ orders: string; clients: string }>(
    'shop',
    `SELECT count(*) FILTER (WHERE material <> 'PLA' OR comment LIKE 'bad%') AS orders,
         (SELECT count(*) FROM clients WHERE email = 'a@b') AS clients FROM orders`,
  )
}

test('bad input is refused with its own code, and nothing is written', async (t) => {
  const before = await count()
  for (const [what, path, body, status, code] of refused) {
    const answer = await call('POST', shop + path, body)
    t.deepEqual([answer.status, answer.body.error?.code], [status, code], what)
  }
  t.deepEqual(await count(), before)
})

const names: [name: string, status: number][] = [
  ['attachment; filename="../../etc/passwd"', 400],
  ['attachment; filename="..\\\\x.stl"', 400],
  ['attachment; filename=".."', 400],
  ['attachment; filename="C:\\temp\\x.stl"', 400],
  ['attachment; filename="a\u0001b.stl"', 400],
  [`attachment; filename*=UTF-8''a%2Fb.stl`, 400],
  [`attachment; filename*=UTF-8''a%00b.stl`, 400],
  [`attachment; filename*=UTF-8''%zz`, 400],
  [`attachment; filename="${'a'.repeat(300)}"`, 400],
  [`attachment; filename="${Buffer.from('größe 模型.stl').toString('latin1')}"`, 200],
  ['attachment; filename="with \\"quotes\\".stl"', 200],
  ['attachment', 200],
]

test('a file name is shown and never a path', async (t) => {
  const id = await newOrder()
  for (const [name, status] of names) {
    // fetch refuses control characters itself; the raw request does not.
    const { statusLine } = await rawUpload(id, name, Buffer.from('model'), 5)
    t.regex(statusLine, new RegExp(` ${status} `, 'u'), JSON.stringify(name))
  }
})

async function rawUpload(
  id: string,
  name: string,
  body: Buffer,
  length: number,
): Promise<{ statusLine: string }> {
  const socket = connect(Number(new URL(shop).port), '127.0.0.1')
  const head = `PUT /api/orders/${id}/model HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: ${length}\r\nContent-Disposition: ${name}\r\n\r\n`
  socket.write(head, 'latin1')
  socket.write(body)
  if (body.length < length) {
    await new Promise<void>((resolve) => socket.write('', () => resolve()))
    socket.end()
  }
  let text = ''
  for await (const chunk of socket) text += String(chunk)
  return { statusLine: text.split('\r\n')[0] ?? '' }
}

test.serial('an upload cut at 99 % leaves neither file nor status', async (t) => {
  const id = await newOrder()
  const incoming = async () => readdir(join(legacy.models, 'incoming'))
  const body = Buffer.alloc(990_000, id)
  const socket = connect(Number(new URL(shop).port), '127.0.0.1')
  socket.on('error', () => {})
  socket.write(
    `PUT /api/orders/${id}/model HTTP/1.1\r\nHost: shop\r\nContent-Length: 1000000\r\n\r\n`,
  )
  socket.write(body)
  await eventually(async () => (await incoming()).length > 0)
  socket.destroy()
  await eventually(async () => (await incoming()).length === 0)
  const { body: order } = await call('GET', `${shop}/api/orders/${id}`)
  t.like(order, { status: 'INITIATED', model_key: null })
  const sha256 = createHash('sha256').update(body).digest('hex')
  const folder = join(legacy.models, 'models', sha256.slice(0, 2))
  t.false((await readdir(folder).catch((): string[] => [])).includes(sha256))
  const again = await upload(id, body)
  t.is(again.status, 200, 'the order is still good for an upload')
})

test('an empty model is refused and the order stays as it was', async (t) => {
  const id = await newOrder()
  const answer = await upload(id, '')
  t.deepEqual([answer.status, answer.body.error?.code], [422, 'empty_model'])
  t.is((await call('GET', `${shop}/api/orders/${id}`)).body['status'], 'INITIATED')
})

test.serial(
  'a model over the limit is refused, declared or streamed, and leaves nothing',
  async (t) => {
    const id = await newOrder()
    const declared = await upload(id, Buffer.alloc(longest + 1))
    t.deepEqual([declared.status, declared.body.error?.code], [413, 'model_too_large'])
    const streamed = await streamedUpload(id, 2 * longest)
    t.is(streamed.status, 413)
    t.deepEqual(
      (await readdir(join(legacy.models, 'incoming'))).length,
      0,
      'the part that had come is gone',
    )
    t.is((await call('GET', `${shop}/api/orders/${id}`)).body['status'], 'INITIATED')
  },
)

test.serial('a large model passes through with flat memory', async (t) => {
  const large = await legacy.start('shop')
  const before = await peakBytes(large.process.pid)
  const id = await newOrder(large.origin)
  const answer = await streamedUpload(id, 100 * 2 ** 20, large.origin)
  t.is(answer.status, 200)
  const grown = (await peakBytes(large.process.pid)) - before
  t.true(grown < 60 * 2 ** 20, `grown by ${grown}`)
})

/** Without Content-Length, and as fast as it is read. */
function streamedUpload(id: string, bytes: number, origin = shop): Promise<{ status: number }> {
  return new Promise((resolve, reject) => {
    const sending = request(`${origin}/api/orders/${id}/model`, { method: 'PUT' })
    const chunk = Buffer.alloc(2 ** 20)
    let left = bytes
    const push = () => {
      while (left > 0) {
        left -= chunk.length
        if (!sending.write(chunk)) return
      }
      sending.end()
    }
    sending.on('drain', push)
    sending.on('response', (response) => {
      response.resume()
      sending.destroy()
      resolve({ status: response.statusCode ?? 0 })
    })
    sending.on('error', reject)
    push()
  })
}

async function peakBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(/VmHWM:\s+(\d+)/u.exec(status)?.[1]) * 1024
}

test.serial('outlives a PostgreSQL that goes away, and says so', async (t) => {
  const gate = await gateBefore(legacy.urls.shop)
  const { origin: gated } = await legacy.start('shop', { SHOP_DATABASE_URL: gate.url })
  const id = await newOrder(gated)
  await gate.shut()
  const away = await call('GET', `${gated}/api/orders/${id}`)
  t.deepEqual([away.status, away.body.error?.code], [503, 'database_unavailable'])
  await gate.open()
  const back = await eventually(async () => {
    const answer = await call('GET', `${gated}/api/orders/${id}`)
    return answer.status === 200 && answer
  })
  t.is(back.body['status'], 'INITIATED')
})
