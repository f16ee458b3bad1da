import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import test from 'ava'
import fc from 'fast-check'

import { externalIdKey } from '../contracts/partner-order.ts'
import { partnerProblems } from '../contracts/partner-problems.ts'
import { torusStl } from '../estate/sample-models.ts'
import type { OrderRequest } from '../partner-intake/accept-orders.ts'
import { validatorOf } from '../partner-intake/api-contract.ts'
import { ModelStore } from '../partner-intake/model-store.ts'
import { giveUpForward } from '../partner-intake/orders.ts'
import { refusalOf } from '../partner-intake/refusal.ts'
import {
  call,
  formBytes,
  type OrderParts,
  type PartAnswer,
  type PartnerEstate,
  partnerKeys,
  startPartnerEstate,
  submit,
} from './partner-fixture.ts'
import { waitUntil } from './wait-until.ts'

/* What a partner may send, well and badly: strict mode, keys, quotas, other partners, hostile bytes. */

const idleMs = 2000
let world: PartnerEstate
test.before(async () => {
  world = await startPartnerEstate({ settings: { intake: { BODY_IDLE_MS: String(idleMs) } } })
  await world.route(10_000)
})
test.after.always(() => world?.stop())

const model = Buffer.from('solid x\nendsolid x\n')
const isProblem = validatorOf('/components/schemas/Problem')
const isError = validatorOf('/components/schemas/Error')

function order(externalId: string, more: Readonly<Record<string, string>> = {}): OrderParts {
  return {
    fields: Object.entries({ external_id: externalId, material: 'PLA', quantity: '1', ...more }),
    model,
  }
}

const strictKey = () => ({ 'idempotency-key': randomUUID() })

function strict(parts: OrderParts, headers: Record<string, string> = strictKey()) {
  return submit(world.intakeApi, partnerKeys.Strict, parts, headers)
}

async function counted(): Promise<number[]> {
  const { rows } = await world.intake.query<{ n: number[] }>(
    `SELECT ARRAY[(SELECT count(*) FROM partner_order), (SELECT count(*) FROM outbox), (SELECT count(DISTINCT order_id) FROM answer),
       (SELECT count(*) FROM answer WHERE state = 'forwarding')]::int[] AS n`,
  )
  return rows[0]!.n
}

function incoming(): Promise<string[]> {
  return readdir(join(world.estate.modelDirectory, 'incoming'))
}

test.serial(
  'a strict partner must bring a key, and is told what is wrong as a problem',
  async (t) => {
    const missing = await strict(order('s-1'), {})
    t.is(missing.status, 400)
    t.is(missing.headers.get('content-type'), 'application/problem+json; charset=utf-8')
    t.like(JSON.parse(missing.text), { code: 'idempotency_key_missing', status: 400 })
    const wrong = await strict(order('s-1', { quantity: 'two' }))
    t.true(isProblem(JSON.parse(wrong.text)), wrong.text)
    t.deepEqual(JSON.parse(wrong.text).errors, [
      { pointer: '#/quantity', detail: 'quantity must be a whole number from 1 to 1000000' },
    ])
    const long = await strict(order('s-1'), { 'idempotency-key': 'k'.repeat(256) })
    t.like(JSON.parse(long.text), { code: 'idempotency_key_invalid' })
    const traced = await strict(order(''), {
      ...strictKey(),
      traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    })
    t.like(JSON.parse(traced.text), { trace_id: '0af7651916cd43dd8448eb211c80319c' })
  },
)

test.serial(
  'a strict partner sees its limits, and may ask for 202 with the place of the order',
  async (t) => {
    const plain = await strict(order('s-2'))
    t.is(plain.status, 201)
    t.regex(plain.headers.get('ratelimit-policy') ?? '', /^"burst";q=6000;w=60$/u)
    t.regex(plain.headers.get('ratelimit') ?? '', /^"burst";r=\d+;t=\d+$/u)
    const key = randomUUID()
    const later = await strict(order('s-3'), { prefer: 'respond-async', 'idempotency-key': key })
    t.is(later.status, 202)
    const { id }: { id: string } = JSON.parse(later.text)
    t.is(later.headers.get('location'), `/api/partner/v1/orders/${id}`)
    const again = await strict(order('s-3'), { 'idempotency-key': `"${key}"` })
    t.deepEqual([again.status, again.text], [202, later.text], 'the first answer, quotes or not')
    t.is(again.headers.get('location'), later.headers.get('location'))
  },
)

test.serial(
  'the first answer is kept, byte for byte, and another content is refused',
  async (t) => {
    const key = { 'idempotency-key': randomUUID() }
    const first = await strict(order('k-1'), key)
    for (const [what, parts, headers] of [
      ['the same', order('k-1'), key],
      ['the same in another form', { ...order('k-1'), boundary: 'other', modelFirst: true }, key],
      ['the same under another key', order('k-1'), strictKey()],
    ] as const) {
      const again = await strict(parts, headers)
      t.deepEqual([again.status, again.text], [first.status, first.text], what)
      t.is(again.headers.get('idempotent-replay'), 'true', what)
    }
    for (const [what, parts, headers] of [
      ['the key with another content', order('k-1', { comment: 'x' }), key],
      ['the key with another external id', order('k-2'), key],
      ['the external id with another content', order('k-1', { material: 'ABS' }), strictKey()],
      ['another model', { ...order('k-1'), model: Buffer.from('other') }, strictKey()],
    ] as const) {
      const before = await counted()
      const other = await strict(parts, headers)
      t.is(other.status, 422, what)
      t.like(JSON.parse(other.text), { code: 'request_differs' })
      t.deepEqual(await counted(), before, what)
    }
  },
)

test.serial('what was refused may come again, corrected, under the same key', async (t) => {
  const key = { 'idempotency-key': randomUUID() }
  t.is((await strict(order('c-1', { quantity: '0' }), key)).status, 400)
  t.is((await strict(order('c-1'), key)).status, 201)
})

test.serial('ten at once, with one key and without: one order, equal answers', async (t) => {
  for (const headers of [{ 'idempotency-key': randomUUID() }, {}] as Record<string, string>[]) {
    const externalId = randomUUID()
    const answers = await Promise.all(
      Array.from({ length: 10 }, () =>
        submit(world.intakeApi, partnerKeys.Acme, order(externalId), headers),
      ),
    )
    t.is(new Set(answers.map(({ status, text }) => `${status} ${text}`)).size, 1)
    t.is(answers.filter(({ headers: of }) => of.get('idempotent-replay') === null).length, 1)
  }
})

test.serial('nothing of a partner is seen by another', async (t) => {
  const key = { 'idempotency-key': randomUUID() }
  const made = await submit(
    world.intakeApi,
    partnerKeys.Acme,
    order('iso-1', { comment: 'secret' }),
    key,
  )
  const { id }: { id: string } = JSON.parse(made.text)
  const asBolt = { headers: { 'x-api-key': partnerKeys.Bolt } }
  t.is((await call(`${world.intakeApi}/orders/${id}`, asBolt)).status, 404)
  t.false((await call(`${world.intakeApi}/orders`, asBolt)).text.includes('iso-1'))
  const same = await submit(world.intakeApi, partnerKeys.Bolt, order('iso-1'), key)
  t.is(same.status, 201, 'the key is another partner’s, and so is the external id')
  t.not(JSON.parse(same.text).id, id)
  for (const path of ['/orders/../orders', '/orders?partner=Acme', `/orders?id=${id}`]) {
    const answer = await call(`${world.intakeApi}${path}`, asBolt)
    t.false(answer.text.includes('secret'), path)
  }
})

test.serial(
  'external ids of every kind are stored as sent, found as sent, and never mixed up',
  async (t) => {
    const ids = [
      '007',
      '7',
      '0',
      '-1',
      '1e3',
      'a:b',
      ':',
      'ID',
      'id',
      'Id',
      'ıd',
      'straße',
      'STRASSE',
      'e\u0301',
      '\u00e9',
      '\u202Eabc',
      '😀',
      '<script>alert(1)</script>',
      "'; DROP TABLE partner_order; --",
      '${jndi:ldap://x}',
      '../../etc/passwd',
      '%00',
      '\\u0000',
      'NULL',
      'undefined',
      'true',
      '{{7*7}}',
      'b\ufeffom',
      'x'.repeat(200),
      'two words',
      'tab\tin',
      'line\nin',
      '\u200b',
      'ﾃｽﾄ',
    ]
    const made = new Map<string, string>()
    for (const id of ids) {
      const answer = await submit(world.intakeApi, partnerKeys.Bolt, order(id))
      t.is(answer.status, 201, JSON.stringify(id))
      const told: { id: string; external_id: string } = JSON.parse(answer.text)
      t.is(told.external_id, id)
      made.set(told.id, id)
    }
    t.is(made.size, ids.length)
    for (const [id, externalId] of made) {
      const { text } = await call(`${world.intakeApi}/orders/${id}`, {
        headers: { 'x-api-key': partnerKeys.Bolt },
      })
      t.is(JSON.parse(text).external_id, externalId)
    }
  },
)

test.serial('hostile models are stored as they are, and the process stays as it was', async (t) => {
  const claims = Buffer.alloc(309)
  // A count that asks for 200 GB.
  claims.writeUInt32LE(0xff_ff_ff_ff, 80)
  const models = {
    'ASCII with a binary name': Buffer.from('solid a\n facet normal 0 0 1\nendsolid a\n'),
    '26 bytes': Buffer.from('solid nothing\nendsolid nothi'),
    'a count that asks for gigabytes': claims,
    'no zip at all': Buffer.from('PK\u0003\u0004 not really'),
    'a form within the form': Buffer.from(
      '\r\n--x\r\nContent-Disposition: form-data; name="quantity"\r\n\r\n9\r\n',
    ),
    'all bytes': Buffer.from(Array.from({ length: 4096 }, (_, n) => n % 256)),
    'binary STL': torusStl(2000),
  }
  for (const [what, content] of Object.entries(models)) {
    const answer = await submit(world.intakeApi, partnerKeys.Acme, {
      ...order(randomUUID()),
      model: content,
    })
    t.is(answer.status, 201, what)
    const { rows } = await world.intake.query<{ key: string; sha256: string; bytes: string }>(
      'SELECT model_key AS key, model_sha256 AS sha256, model_bytes AS bytes FROM partner_order WHERE id = $1',
      [JSON.parse(answer.text).id],
    )
    const stored = await readFile(join(world.estate.modelDirectory, rows[0]!.key))
    t.true(stored.equals(content), what)
    t.is(rows[0]!.sha256, createHash('sha256').update(content).digest('hex'), what)
  }
})

function headOf(length: number): string {
  return (
    `POST /api/partner/v1/orders HTTP/1.1\r\nHost: x\r\nX-Api-Key: ${partnerKeys.Acme}\r\n` +
    `Content-Type: multipart/form-data; boundary=b\r\nContent-Length: ${length}\r\n\r\n`
  )
}

test.serial(
  'an upload that breaks off leaves nothing, and one that is too large is refused unread',
  async (t) => {
    const { port } = new URL(world.intakeApi)
    const before = await counted()
    const socket = connect(Number(port), '127.0.0.1')
    socket.write(headOf(1_000_000))
    socket.write('--b\r\nContent-Disposition: form-data; name="model"; filename="m"\r\n\r\n')
    socket.write(randomBytes(500_000))
    await waitUntil('it is being stored', async () => (await incoming()).length > 0)
    socket.destroy()
    await waitUntil('nothing is left of it', async () => (await incoming()).length === 0)
    const large = connect(Number(port), '127.0.0.1')
    large.write(headOf(200 * 2 ** 20))
    const answer = await new Promise<string>((resolve) =>
      large.once('data', (data) => resolve(String(data))),
    )
    large.destroy()
    t.regex(answer, /^HTTP\/1\.1 413 /u)
    t.deepEqual(await counted(), before)
  },
)

/** A client of our own, and what the intake says to it until the connection is over. */
function rawClient(): { socket: Socket; said: () => string; closed: Promise<void> } {
  const socket = connect(Number(new URL(world.intakeApi).port), '127.0.0.1')
  let said = ''
  socket.on('data', (data) => (said += String(data)))
  socket.on('error', () => undefined)
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  return { socket, said: () => said, closed }
}

const orderHeadOf = (more: string): string =>
  `POST /api/partner/v1/orders HTTP/1.1\r\nHost: x\r\nX-Api-Key: ${partnerKeys.Acme}\r\n` +
  `Content-Type: multipart/form-data; boundary=b\r\n${more}\r\n\r\n`

test.serial(
  'a client that stops in the middle is given up, also on a connection that was used before',
  async (t) => {
    const head = orderHeadOf('Content-Length: 1000')
    const stopping = [
      ['in the first body', '', `${head}--b\r\n`],
      ['in the second body', 'GET /health HTTP/1.1\r\nHost: x\r\n\r\n', `${head}--b\r\n`],
      ['in the head', '', 'POST /api/partner/v1/orders HTTP/1.1\r\n'],
      ['before the head', '', ''],
    ] as const
    await Promise.all(
      stopping.map(async ([what, before, sent]) => {
        const { socket, said, closed } = rawClient()
        if (before !== '') {
          socket.write(before)
          await waitUntil('the first is answered', async () => said().includes('"ok"'))
        }
        socket.write(sent)
        await closed
        if (sent.includes('--b')) t.regex(said(), /HTTP\/1\.1 400 /u, what)
      }),
    )
    t.deepEqual(await incoming(), [])
  },
)

test.serial('a body without an end is refused, however it is made', async (t) => {
  const { socket, said, closed } = rawClient()
  socket.write(orderHeadOf('Transfer-Encoding: chunked'))
  const chunk = Buffer.concat([
    Buffer.from('100000\r\n'),
    Buffer.alloc(2 ** 20),
    Buffer.from('\r\n'),
  ])
  let sent = 0
  for (; said() === '' && sent < 200; sent += 1)
    if (!socket.write(chunk))
      await Promise.race([new Promise((resolve) => socket.once('drain', resolve)), closed])
  t.regex(said(), /^HTTP\/1\.1 413 /u, `${sent} MiB without a boundary`)
  socket.destroy()
})

test.serial('who waits for an answer longer than a body may rest gets it', async (t) => {
  const owner = await world.intake.connect()
  await owner.query('BEGIN')
  await owner.query('LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE')
  const answering = submit(world.intakeApi, partnerKeys.Acme, order(randomUUID()))
  await waitUntil('it has waited for long', async () => {
    const { rows } = await world.intake.query(
      `SELECT FROM pg_stat_activity WHERE application_name = 'strangler-intake' AND wait_event_type = 'Lock'
         AND query_start < clock_timestamp() - $1::float8 * interval '1 millisecond'`,
      [1.5 * idleMs],
    )
    return rows.length > 0
  })
  await owner.query('ROLLBACK')
  owner.release()
  t.is((await answering).status, 201)
})

test.serial('keys that were lost to a later request are not given up with it', async (t) => {
  const keys = [externalIdKey('late')]
  const sha256 = Buffer.alloc(32)
  const asked: OrderRequest = {
    partner: 'Acme',
    apiKeySha256: createHash('sha256').update(partnerKeys.Acme).digest(),
    submission: {
      externalId: 'late',
      material: 'PLA',
      quantity: 1,
      comment: null,
      model: { key: 'm', sha256: 'm', bytes: 1 },
    },
    keys,
    sha256,
    orderId: randomUUID(),
    status: 201,
    body: Buffer.alloc(0),
  }
  const taken = async (ago: string): Promise<number> => {
    const { rowCount } = await world.intake.query(
      `INSERT INTO answer (partner, key_sha256, request_sha256, state, at)
       VALUES ('Acme', $1, $2, 'forwarding', clock_timestamp() - $3::interval) ON CONFLICT DO NOTHING`,
      [keys[0], sha256, ago],
    )
    return rowCount ?? 0
  }
  t.is(await taken('10 seconds'), 1)
  await giveUpForward(world.intake, asked, 60_000)
  t.is(await taken('10 seconds'), 0, 'somebody else took them ten seconds ago')
  await giveUpForward(world.intake, asked, 10_000)
  t.is(await taken('0'), 1)
  await giveUpForward(world.intake, asked, 0)
  t.is(await taken('0'), 1, 'our own are free at once')
  await giveUpForward(world.intake, asked, 0)
})

test.serial('a start sweeps up the uploads of its own life before, and of no other', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'strangler-models-'))
  const store = new ModelStore(folder, 'intake')
  await store.start()
  const others = `intake-2-${randomUUID()}`
  for (const each of [others, `intake-${randomUUID()}`])
    await writeFile(join(folder, 'incoming', each), 'x')
  await store.start()
  t.deepEqual(await readdir(join(folder, 'incoming')), [others])
  await rm(folder, { recursive: true })
})

test.serial('a statement that the database gives up is no failure of ours', (t) => {
  for (const code of ['57014', '55P03', '53100'])
    t.is(refusalOf(Object.assign(new Error('given up'), { code })).code, 'service_unavailable')
})

test.serial(
  'a revoked key is refused at once, and a second one works beside the first',
  async (t) => {
    const second = `sk_test_${randomUUID()}`
    const { rows } = await world.intake.query<{ id: string }>(
      `INSERT INTO api_key (id, partner, secret_sha256) VALUES ('second', 'Bolt', $1) RETURNING id`,
      [createHash('sha256').update(second).digest()],
    )
    const list = () => call(`${world.intakeApi}/orders`, { headers: { 'x-api-key': second } })
    t.is((await list()).status, 200)
    // From now on the intake knows whose key it is without asking.
    t.is((await submit(world.intakeApi, second, order(randomUUID()))).status, 201)
    t.is(
      (await call(`${world.intakeApi}/orders`, { headers: { 'x-api-key': partnerKeys.Bolt } }))
        .status,
      200,
    )
    await world.intake.query('UPDATE api_key SET revoked_at = now() WHERE id = $1', [rows[0]!.id])
    const late = randomUUID()
    t.is((await submit(world.intakeApi, second, order(late))).status, 401)
    t.is((await list()).status, 401)
    const stored = await world.intake.query('SELECT FROM partner_order WHERE external_id = $1', [
      late,
    ])
    t.is(stored.rowCount, 0)
  },
)

test.serial(
  'a partner that asks too much is told when to come again, and the others notice nothing',
  async (t) => {
    await world.intake.query('UPDATE partner SET requests_per_minute = 5 WHERE id = $1', ['Strict'])
    const headers = { 'x-api-key': partnerKeys.Strict }
    const answers: PartAnswer[] = []
    for (let n = 0; n < 10; n += 1)
      answers.push(await call(`${world.intakeApi}/orders`, { headers }))
    const refused = answers.filter(({ status }) => status === 429)
    t.true(refused.length > 0)
    t.regex(refused[0]!.headers.get('retry-after') ?? '', /^\d+$/u)
    t.like(JSON.parse(refused[0]!.text), { code: 'too_many_requests' })
    t.is(
      (await call(`${world.intakeApi}/orders`, { headers: { 'x-api-key': partnerKeys.Acme } }))
        .status,
      200,
    )
    await world.intake.query('UPDATE partner SET requests_per_minute = 6000 WHERE id = $1', [
      'Strict',
    ])
  },
)

/** Mostly what the document allows, and each part wrong in one of many ways. */
const text = fc.oneof(
  { weight: 3, arbitrary: fc.string({ minLength: 1, maxLength: 20 }) },
  fc.string({ unit: 'binary', maxLength: 300 }),
  fc.constantFrom('', ' ', '\0', '\ud800', 'x'.repeat(201), 'x'.repeat(10_001)),
)
const value = fc.oneof(text, fc.uint8Array({ maxLength: 50 }))
const formFields = ['external_id', 'material', 'quantity', 'comment', 'model']
const name = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...formFields) },
  fc.string({ maxLength: 20 }),
)
/** One in ten times. */
const rarely = <Value>(arbitrary: fc.Arbitrary<Value>): fc.Arbitrary<Value | undefined> =>
  fc.oneof({ weight: 9, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary })
const request = fc.record({
  fields: fc.array(fc.tuple(name, value), { maxLength: 4 }),
  valid: fc.oneof({ weight: 2, arbitrary: fc.constant(true) }, fc.constant(false)),
  model: fc.oneof(
    { weight: 9, arbitrary: fc.uint8Array({ minLength: 1, maxLength: 200 }) },
    fc.constant(undefined),
  ),
  modelFirst: fc.boolean(),
  cut: rarely(fc.nat(400)),
  flipped: rarely(fc.nat(400)),
  key: fc.oneof(
    { weight: 3, arbitrary: fc.uuid() },
    fc.string({ maxLength: 300 }),
    fc.constant(undefined),
  ),
  partner: fc.constantFrom('Acme', 'Strict'),
  contentType: rarely(fc.string({ maxLength: 80 })),
})

function header(given: string): string {
  return given.replaceAll(/[^\x20-\x7e]/gu, '?').trim()
}

test.serial(
  'whatever comes gets an answer of the contract: never a 5xx, never half an order',
  async (t) => {
    const statuses = new Map<number, number>()
    await fc.assert(
      fc.asyncProperty(request, async (each) => {
        const fields = each.valid
          ? [
              ...Object.entries({ external_id: randomUUID(), material: 'PLA', quantity: '1' }),
              ...each.fields.filter(([of]) => !formFields.includes(of)),
            ]
          : each.fields
        const { modelFirst } = each
        const made = formBytes({ fields, model: each.model, modelFirst, boundary: 'bound' })
        let { body } = made
        if (each.cut !== undefined) body = body.subarray(0, Math.min(each.cut, body.length))
        if (each.flipped !== undefined && each.flipped < body.length)
          body[each.flipped] = (body[each.flipped] ?? 0) ^ 0x55
        const before = await counted()
        const answer = await call(`${world.intakeApi}/orders`, {
          method: 'POST',
          headers: {
            'x-api-key': partnerKeys[each.partner === 'Strict' ? 'Strict' : 'Acme'],
            'content-type': header(each.contentType ?? made.contentType),
            ...(each.key !== undefined && { 'idempotency-key': header(each.key) }),
          },
          body: new Uint8Array(body),
        })
        statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1)
        const after = await counted()
        if (answer.status === 201) {
          if (answer.headers.get('idempotent-replay') === 'true') return
          t.deepEqual(after, [before[0]! + 1, before[1]! + 1, before[2]! + 1, 0])
          return
        }
        t.true(answer.status >= 400 && answer.status < 500, `${answer.status} ${answer.text}`)
        t.deepEqual(after, before)
        const told: unknown = JSON.parse(answer.text)
        if (each.partner === 'Strict') {
          t.true(isProblem(told), answer.text)
          t.true(Object.hasOwn(partnerProblems, JSON.parse(answer.text).code))
        } else t.true(isError(told), answer.text)
      }),
      { numRuns: 300 },
    )
    t.true((statuses.get(201) ?? 0) > 10 && (statuses.get(400) ?? 0) > 10)
    t.log([...statuses].map(([status, count]) => `${status}: ${count}`).join(', '))
    t.deepEqual(await incoming(), [])
  },
)
