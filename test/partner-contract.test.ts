import { randomUUID } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'

import { validatorOf } from '../partner-intake/api-contract.ts'
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

/*
 * One contract, spoken by the MES and by the intake, the latter accepting itself and forwarding. Whatever a partner sends gets the
 * same answer from all of them; what may differ is named here, with its reason.
 */

let world: PartnerEstate
const targets = ['mes', 'forwarding', 'accepting'] as const
type Target = (typeof targets)[number]

test.before(async () => {
  world = await startPartnerEstate()
})
test.after.always(() => world?.stop())

const key = partnerKeys.Acme
const model = Buffer.from('solid x\nendsolid x\n')

function apiOf(target: Target): string {
  return target === 'mes' ? world.mesApi : world.intakeApi
}

/** Asks every target the same, and compares what each answers but for ids and times. */
async function everywhere(
  ask: (api: string) => Promise<PartAnswer>,
): Promise<Record<Target, PartAnswer>> {
  await world.route(0)
  const mes = await ask(apiOf('mes'))
  const forwarding = await ask(apiOf('forwarding'))
  await world.route(10_000)
  const accepting = await ask(apiOf('accepting'))
  return { mes, forwarding, accepting }
}

const uuids = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/gu
const times = /"\d{4}-\d\d-\d\dT[\d:.]+Z"/gu

function comparable({ status, headers, text }: PartAnswer) {
  return {
    status,
    type: headers.get('content-type'),
    poweredBy: headers.get('x-powered-by'),
    etag: headers.get('etag'),
    text: text.replaceAll(uuids, '<id>').replaceAll(times, '"<time>"'),
  }
}

/** The MES may have calculated the price by now. */
function settled(answer: PartAnswer) {
  const found = comparable(answer)
  return {
    ...found,
    text: found.text
      .replaceAll('"PRICE_CALCULATED"', '"SUBMITTED"')
      .replaceAll(/"price":"[\d.]+","currency":"EUR"/gu, '"price":null,"currency":null'),
  }
}

/** Each target gets an external id of its own: the intake makes an order once, and the MES as often as it is sent. */
function fieldsWith(more: Readonly<Record<string, string>> = {}, id: string = randomUUID()) {
  return Object.entries({ external_id: id, material: 'PLA', quantity: '2', ...more })
}

const forms: readonly (readonly [what: string, parts: () => OrderParts, status: number])[] = [
  ['all fields', () => ({ fields: fieldsWith({ comment: 'ü\r\n--x' }), model }), 201],
  ['no comment', () => ({ fields: fieldsWith(), model }), 201],
  ['empty comment', () => ({ fields: fieldsWith({ comment: '' }), model }), 201],
  ['the file first', () => ({ fields: fieldsWith(), model, modelFirst: true }), 201],
  ['unknown fields', () => ({ fields: fieldsWith({ colour: 'red', id: '7' }), model }), 201],
  [
    'spaces around',
    () => ({ fields: fieldsWith({ material: '  PLA ', quantity: ' 3 ' }), model }),
    201,
  ],
  ['a field twice', () => ({ fields: [...fieldsWith(), ['quantity', '5']], model }), 201],
  [
    'the longest names',
    () => ({
      fields: fieldsWith({ material: 'm'.repeat(100) }, 'e'.repeat(164) + randomUUID()),
      model,
    }),
    201,
  ],
  ['the largest quantity', () => ({ fields: fieldsWith({ quantity: '1000000' }), model }), 201],
  [
    'a comment of 10 000 bytes',
    () => ({ fields: fieldsWith({ comment: 'c'.repeat(10_000) }), model }),
    201,
  ],
  ['a file of one byte', () => ({ fields: fieldsWith(), model: Buffer.from('x') }), 201],
  ['no model', () => ({ fields: fieldsWith() }), 400],
  ['an empty model', () => ({ fields: fieldsWith(), model: Buffer.alloc(0) }), 400],
  ['a model that is no file', () => ({ fields: fieldsWith({ model: 'text' }) }), 400],
  ['nothing at all', () => ({}), 400],
  [
    'no external_id',
    () => ({
      fields: [
        ['material', 'PLA'],
        ['quantity', '1'],
      ],
      model,
    }),
    400,
  ],
  ['a blank external_id', () => ({ fields: fieldsWith({}, '   '), model }), 400],
  [
    'no material',
    () => ({
      fields: [
        ['external_id', 'x'],
        ['quantity', '1'],
      ],
      model,
    }),
    400,
  ],
  [
    'no quantity',
    () => ({
      fields: [
        ['external_id', 'x'],
        ['material', 'PLA'],
      ],
      model,
    }),
    400,
  ],
  [
    'everything wrong',
    () => ({
      fields: [
        ['quantity', 'x'],
        ['external_id', ''],
      ],
      model,
    }),
    400,
  ],
  ['quantity in words', () => ({ fields: fieldsWith({ quantity: 'two' }), model }), 400],
  ['quantity 0', () => ({ fields: fieldsWith({ quantity: '0' }), model }), 400],
  ['quantity too large', () => ({ fields: fieldsWith({ quantity: '1000001' }), model }), 400],
  [
    'quantity of 11 characters',
    () => ({ fields: fieldsWith({ quantity: '1'.repeat(11) }), model }),
    400,
  ],
  ['quantity with a dot', () => ({ fields: fieldsWith({ quantity: '1.0' }), model }), 400],
  [
    'external_id of 201 characters',
    () => ({ fields: fieldsWith({}, 'e'.repeat(201)), model }),
    400,
  ],
  ['external_id of 101 pairs', () => ({ fields: fieldsWith({}, '😀'.repeat(101)), model }), 400],
  [
    'material of 101 characters',
    () => ({ fields: fieldsWith({ material: 'm'.repeat(101) }), model }),
    400,
  ],
  [
    'a comment of 10 001 bytes',
    () => ({ fields: fieldsWith({ comment: 'c'.repeat(10_001) }), model }),
    413,
  ],
  ['a NUL', () => ({ fields: fieldsWith({ comment: 'a\0b' }), model }), 400],
  [
    'no UTF-8',
    () => ({ fields: [...fieldsWith(), ['comment', Buffer.from([0xff, 0xfe])]], model }),
    400,
  ],
  [
    '60 fields',
    () => ({
      fields: [...fieldsWith(), ...Array.from({ length: 60 }, (_, n) => [`f${n}`, 'x'] as const)],
      model,
    }),
    400,
  ],
]

for (const [what, parts, status] of forms) {
  test.serial(`${what}: ${status} from each`, async (t) => {
    const answers = await everywhere((api) => submit(api, key, parts()))
    t.is(answers.mes.status, status, answers.mes.text)
    const mes = comparable(answers.mes)
    // Each has an external id of its own, which the answer repeats.
    const plain = (answer: PartAnswer) => {
      const found = comparable(answer)
      return {
        ...found,
        text: found.text.replaceAll(/"external_id":"[^"]*"/gu, '"external_id":"<own>"'),
      }
    }
    t.deepEqual(plain(answers.forwarding), { ...mes, text: plain(answers.mes).text })
    t.deepEqual(plain(answers.accepting), { ...mes, text: plain(answers.mes).text })
  })
}

const bodies: readonly (readonly [what: string, body: (valid: Buffer) => Buffer, type?: string])[] =
  [
    ['cut in the middle', (valid) => valid.subarray(0, valid.length / 2)],
    ['without its last boundary', (valid) => valid.subarray(0, -8)],
    ['without a boundary in it', () => Buffer.from('no form at all')],
    ['empty', () => Buffer.alloc(0)],
    ['JSON', () => Buffer.from('{"external_id":"x"}'), 'application/json'],
    ['a form without a boundary', (valid) => valid, 'multipart/form-data'],
    ['a form of another kind', () => Buffer.from('a=b'), 'application/x-www-form-urlencoded'],
    [
      'a part without a name',
      () => Buffer.from('--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n'),
      'multipart/form-data; boundary=x',
    ],
    [
      'a part without a head',
      () => Buffer.from('--x\r\n\r\n\r\na\r\n--x--\r\n'),
      'multipart/form-data; boundary=x',
    ],
    [
      'junk behind a boundary',
      () => Buffer.from('--x??\r\n\r\na\r\n--x--\r\n'),
      'multipart/form-data; boundary=x',
    ],
    [
      'a head that never ends',
      () => Buffer.from(`--x\r\nA: ${'b'.repeat(20_000)}`),
      'multipart/form-data; boundary=x',
    ],
  ]

for (const [what, body, type] of bodies) {
  test.serial(`a body that is ${what}: the same refusal from each`, async (t) => {
    const valid = formBytes({ fields: fieldsWith(), model, boundary: 'x' })
    const answers = await everywhere((api) =>
      call(`${api}/orders`, {
        method: 'POST',
        headers: { 'x-api-key': key, 'content-type': type ?? valid.contentType },
        body: new Uint8Array(body(valid.body)),
      }),
    )
    t.true(answers.mes.status >= 400 && answers.mes.status < 500)
    t.deepEqual(comparable(answers.forwarding), comparable(answers.mes))
    t.deepEqual(comparable(answers.accepting), comparable(answers.mes))
  })
}

const calls: readonly (readonly [method: string, path: string, headers: Record<string, string>])[] =
  [
    ['GET', '/orders', {}],
    ['GET', '/orders', { 'x-api-key': 'unknown' }],
    ['GET', '/orders', { 'x-api-key': '' }],
    ['POST', '/orders', {}],
    ['GET', `/orders/${randomUUID()}`, {}],
    ['GET', `/orders/${randomUUID()}`, { 'x-api-key': key }],
    ['GET', '/orders/7', { 'x-api-key': key }],
    ['GET', '/orders/%zz', { 'x-api-key': key }],
    ['GET', '/orders/a%2Fb', { 'x-api-key': key }],
    ['GET', '/orders?status=NONE', { 'x-api-key': key }],
    ['GET', '/orders?status=', { 'x-api-key': partnerKeys.Bolt }],
    ['GET', '/orders?status=CLOSED&status=SHIPPED', { 'x-api-key': key }],
    ['GET', '/orders?page=0', { 'x-api-key': key }],
    ['GET', '/orders?page=', { 'x-api-key': partnerKeys.Bolt }],
    ['GET', '/orders?page=10000000', { 'x-api-key': key }],
    ['GET', '/orders?page=9&status=NONE', { 'x-api-key': key }],
    ['GET', '/orders?page=x&status=NONE', { 'x-api-key': key }],
    ['GET', '/orders?page=1&page=2', { 'x-api-key': key }],
    ['GET', '/orders?page=7', { 'x-api-key': partnerKeys.Bolt }],
    ['GET', '/', {}],
    ['GET', '', { 'x-api-key': key }],
    ['GET', '/Orders/', { 'x-api-key': partnerKeys.Bolt }],
    ['PUT', '/orders', { 'x-api-key': key }],
    ['DELETE', `/orders/${randomUUID()}`, { 'x-api-key': key }],
    ['HEAD', '/orders', { 'x-api-key': partnerKeys.Bolt }],
    ['OPTIONS', '/orders', {}],
  ]

for (const [method, path, headers] of calls) {
  const who = headers['x-api-key'] === undefined ? 'nobody' : JSON.stringify(headers['x-api-key'])
  test.serial(
    `${method} ${path.replaceAll(uuids, '<id>') || '(the root)'} by ${who}: the same from each`,
    async (t) => {
      const answers = await everywhere((api) => call(`${api}${path}`, { method, headers }))
      t.deepEqual(comparable(answers.forwarding), comparable(answers.mes))
      t.deepEqual(comparable(answers.accepting), comparable(answers.mes))
    },
  )
}

test.serial(
  'an order is read as it was sent, by its id and in the list, and by nobody else',
  async (t) => {
    const isOrder = validatorOf('/components/schemas/Order')
    const isPage = validatorOf('/components/schemas/OrderPage')
    const id = randomUUID()
    await world.route(10_000)
    const [mes, intake] = await Promise.all(
      [world.mesApi, world.intakeApi].map(async (api) => {
        const parts = { fields: fieldsWith({ comment: 'für "x"' }, id), model }
        const accepted = await submit(api, partnerKeys.Bolt, parts)
        const made: { id: string } = JSON.parse(accepted.text)
        const bolt = { headers: { 'x-api-key': partnerKeys.Bolt } }
        const acme = { headers: { 'x-api-key': key } }
        const one = await call(`${api}/orders/${made.id}`, bolt)
        const list = await call(`${api}/orders?status=&page=1`, bolt)
        t.true(isOrder(JSON.parse(one.text)), one.text)
        t.true(isPage(JSON.parse(list.text)), list.text)
        t.true(list.text.includes(made.id))
        t.is((await call(`${api}/orders/${made.id}`, acme)).status, 404)
        t.false((await call(`${api}/orders`, acme)).text.includes(made.id))
        return { one, list }
      }),
    )
    t.deepEqual(settled(intake!.one), settled(mes!.one))
    t.deepEqual(settled(intake!.list), settled(mes!.list))
  },
)

test.serial('what was refused has left nothing behind', async (t) => {
  const incoming = await readdir(join(world.estate.modelDirectory, 'incoming'))
  t.deepEqual(
    incoming.filter((name) => name.startsWith('intake-')),
    [],
  )
  const { rows } = await world.intake.query(
    `SELECT FROM partner_order o FULL JOIN answer a ON a.order_id = o.id WHERE o.id IS NULL OR a.order_id IS NULL`,
  )
  t.is(rows.length, 0)
})
