import { readFile, readdir } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'

import test from 'ava'

import { type Estate, startEstate } from '../estate/estate.ts'
import { withClient } from '../estate/postgres-server.ts'
import { waitUntil } from './wait-until.ts'

/** What people send by mistake or malice, through the front door: a clear answer with a stable code, and nothing half done. */
let estate: Estate

const megabyte = 1024 * 1024

test.before(async () => {
  estate = await startEstate({
    without: ['bridge', 'relay', 'courier', 'watch', 'applier', 'shadow'],
    settings: { shop: { SHOP_MODEL_MAX_BYTES: String(300 * megabyte) } },
  })
})
test.after.always(() => estate?.stop())

interface Answer {
  readonly status: number
  readonly code: string
}

async function answerTo(response: Response): Promise<Answer> {
  const body: unknown = await response.json().catch(() => undefined)
  const error: unknown =
    typeof body === 'object' && body !== null && 'error' in body ? body.error : undefined
  const code =
    typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : ''
  return { status: response.status, code }
}

/** As a customer's program does: a kept connection may be closed by the other side just when it is used again. */
async function insist(request: () => Promise<Response>): Promise<Response> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await request()
    } catch (error) {
      if (tries === 3) throw error
    }
  }
}

async function newOrder(): Promise<string> {
  const response = await insist(() =>
    fetch(`${estate.pages.shop}/api/orders`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ client_id: null, material: 'PLA', quantity: 1 }),
    }),
  )
  const body: unknown = await response.json()
  return typeof body === 'object' && body !== null && 'id' in body ? String(body.id) : ''
}

async function statusOf(id: string): Promise<string | undefined> {
  return withClient(estate.databases.shop, async (client) => {
    const { rows } = await client.query<{ status: string }>(
      'SELECT status FROM orders WHERE id = $1',
      [id],
    )
    return rows[0]?.status
  })
}

async function filesInStore(): Promise<string[]> {
  const entries = await readdir(estate.modelDirectory, { recursive: true, withFileTypes: true })
  return entries.filter((entry) => entry.isFile()).map((entry) => entry.name)
}

const post = (path: string, body: string): Promise<Response> =>
  fetch(`${estate.pages.shop}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body,
  })

const refused: Record<string, { ask: () => Promise<Response>; expect: Answer }> = {
  'malformed JSON': {
    ask: () => post('/api/orders', '{"material":'),
    expect: { status: 400, code: 'malformed_json' },
  },
  'an order without a client number that exists': {
    ask: () => post('/api/orders', '{"client_id":999999999,"material":"PLA","quantity":1}'),
    expect: { status: 422, code: 'unknown_client' },
  },
  'an order without a quantity': {
    ask: () => post('/api/orders', '{"client_id":null,"material":"PLA"}'),
    expect: { status: 422, code: 'invalid_field' },
  },
  'an unknown order': {
    ask: () => fetch(`${estate.pages.shop}/api/orders/11111111-1111-4111-8111-111111111111`),
    expect: { status: 404, code: 'order_not_found' },
  },
  'an id with a colon': {
    ask: () => fetch(`${estate.pages.shop}/api/orders/a:b`),
    expect: { status: 404, code: 'order_not_found' },
  },
  'an id of 500 characters': {
    ask: () => fetch(`${estate.pages.shop}/api/orders/${'9'.repeat(500)}`),
    expect: { status: 404, code: 'order_not_found' },
  },
  'a model of 0 bytes': {
    ask: async () =>
      fetch(`${estate.pages.shop}/api/orders/${await newOrder()}/model`, {
        method: 'PUT',
        body: '',
      }),
    expect: { status: 422, code: 'empty_model' },
  },
  'a file name that climbs': {
    ask: async () =>
      fetch(`${estate.pages.shop}/api/orders/${await newOrder()}/model`, {
        method: 'PUT',
        headers: { 'content-disposition': 'attachment; filename="../../etc/passwd"' },
        body: 'solid x',
      }),
    expect: { status: 400, code: 'invalid_file_name' },
  },
  'a submit without a model': {
    ask: async () => post(`/api/orders/${await newOrder()}/submit`, ''),
    expect: { status: 409, code: 'model_missing' },
  },
}

for (const [what, { ask, expect }] of Object.entries(refused)) {
  test.serial(`${what}: ${expect.status} ${expect.code}`, async (t) => {
    t.deepEqual(await answerTo(await ask()), expect)
    t.deepEqual(await filesInStore(), [], 'nothing lies in the model store')
  })
}

test.serial('a file name that is not ASCII is a name like any other', async (t) => {
  const id = await newOrder()
  const response = await fetch(`${estate.pages.shop}/api/orders/${id}/model`, {
    method: 'PUT',
    headers: {
      'content-disposition': `attachment; filename*=UTF-8''${encodeURIComponent('кольцо 指輪.stl')}`,
    },
    body: 'solid ring',
  })
  t.is(response.status, 200)
  t.is(await statusOf(id), 'FILE_UPLOADED')
})

test.serial(
  'an upload cut at 99 %: nothing stays, and the same order takes the whole file afterwards',
  async (t) => {
    const before = await filesInStore()
    const id = await newOrder()
    const { hostname, port } = new URL(estate.pages.shop)
    await new Promise<void>((resolve, reject) => {
      const socket = connect(Number(port), hostname)
      socket.once('error', reject)
      socket.once('close', () => resolve())
      socket.write(
        `PUT /api/orders/${id}/model HTTP/1.1\r\nHost: shop\r\nContent-Length: ${megabyte}\r\n\r\n`,
      )
      socket.write(Buffer.alloc(Math.floor(megabyte * 0.99), 7), () => socket.destroy())
    })
    await waitUntil(
      'the half file to be gone',
      async () => (await filesInStore()).length === before.length,
    )
    t.is(await statusOf(id), 'INITIATED')
    const again = await fetch(`${estate.pages.shop}/api/orders/${id}/model`, {
      method: 'PUT',
      body: Buffer.alloc(megabyte, 7),
    })
    t.is(again.status, 200)
  },
)

/** Largest resident set so far, in bytes, as the kernel counted it. */
async function peakOf(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? Number.NaN) * 1024
}

test.serial('an upload of 200 MB raises no process by more than 64 MB', async (t) => {
  const processes = (['shop', 'proxy'] as const).map((name) => estate.process(name))
  // One small upload first: what a process needs to know how is not what a large file costs.
  await fetch(`${estate.pages.shop}/api/orders/${await newOrder()}/model`, {
    method: 'PUT',
    body: Buffer.alloc(megabyte, 1),
  })
  const before = await Promise.all(processes.map((each) => peakOf(each.pid)))
  const id = await newOrder()
  const chunk = new Uint8Array(megabyte).fill(9)
  let left = 200
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (left === 0) controller.close()
      else controller.enqueue(chunk)
      left -= 1
    },
  })
  const response = await fetch(`${estate.pages.shop}/api/orders/${id}/model`, {
    method: 'PUT',
    body,
    duplex: 'half',
  })
  t.is(response.status, 200)
  for (const [index, each] of processes.entries()) {
    const grown = ((await peakOf(each.pid)) - before[index]!) / megabyte
    t.log(`${each.name}: +${grown.toFixed(1)} MB at its peak`)
    t.true(grown < 64, `${each.name} grew by ${grown.toFixed(1)} MB`)
  }
  const stored = await withClient(estate.databases.shop, async (client) => {
    const { rows } = await client.query<{ key: string; bytes: string }>(
      'SELECT model_key AS key, model_bytes::text AS bytes FROM orders WHERE id = $1',
      [id],
    )
    return rows[0]!
  })
  t.is(stored.bytes, String(200 * megabyte))
  t.true((await readFile(join(estate.modelDirectory, stored.key))).length === 200 * megabyte)
})

test.serial('a model over the limit is refused before it is read', async (t) => {
  const url = `${estate.pages.shop}/api/orders/${await newOrder()}/model`
  const tooLarge = Buffer.alloc(301 * megabyte)
  const response = await insist(() => fetch(url, { method: 'PUT', body: tooLarge }))
  t.deepEqual(await answerTo(response), { status: 413, code: 'model_too_large' })
})
