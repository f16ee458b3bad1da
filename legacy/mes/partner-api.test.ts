import { randomUUID } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'

import { eventually, readJson } from '../legacy-under-test.ts'
import { binaryStl, MesUnderTest, referenceTo } from './mes-under-test.ts'

let mes: MesUnderTest
test.before(async () => {
  mes = await MesUnderTest.start()
})
test.after.always(() => mes?.stop())

function partnerOrder(fields: Record<string, string>, model?: Buffer): FormData {
  const form = new FormData()
  if (model) form.set('model', new Blob([new Uint8Array(model)]), '../größe.stl')
  for (const [name, value] of Object.entries(fields)) form.set(name, value)
  return form
}

function submitAsPartner(key: string, body: FormData | string) {
  const url = `${mes.origin}/api/partner/v1/orders`
  return fetch(url, { method: 'POST', headers: { 'x-api-key': key }, body })
}

test('a partner order is taken twice when it is sent twice, and told to the CRM', async (t) => {
  const model = Buffer.concat([binaryStl(2000), Buffer.from(randomUUID())])
  const fields = { external_id: 'E-1', material: 'PLA', quantity: '2', comment: 'ü\r\n--x' }
  const first = await submitAsPartner('key-a', partnerOrder(fields, model))
  t.is(first.status, 201)
  const answer = await readJson<{ id: string }>(first)
  t.like(answer, { external_id: 'E-1', status: 'SUBMITTED' })
  const second = await submitAsPartner('key-a', partnerOrder(fields, model))
  t.not((await readJson<{ id: string }>(second)).id, answer.id)
  const created = await eventually(async () => mes.events(answer.id, 'order.created')[0])
  t.like(JSON.parse(created.body.toString()), {
    source: 'partner',
    status: 'SUBMITTED',
    partner: 'Acme',
    externalId: 'E-1',
    material: 'PLA',
    quantity: 2,
    comment: 'ü\r\n--x',
    model: referenceTo(model),
  })
  const own = { headers: { 'x-api-key': 'key-a' } }
  const url = `${mes.origin}/api/partner/v1/orders`
  t.like(await (await fetch(`${url}/${answer.id}`, own)).json(), { external_id: 'E-1' })
  t.is((await readJson<{ total: number }>(await fetch(url, own))).total, 2)
  const other = { headers: { 'x-api-key': 'key-b' } }
  t.is((await fetch(`${url}/${answer.id}`, other)).status, 404)
  t.is((await readJson<{ total: number }>(await fetch(url, other))).total, 0)
  t.is((await fetch(url)).status, 401)
  t.is((await fetch(`${url}?status=NONE`, own)).status, 400)
})

test('a bad partner order is refused in one text and leaves no row', async (t) => {
  const model = Buffer.from('model')
  const fields = { external_id: 'bad', material: 'PLA', quantity: '2' }
  const cases: [what: string, key: string, body: FormData | string, status: number][] = [
    ['unknown key', 'none', partnerOrder(fields, model), 401],
    ['not multipart', 'key-b', 'text', 400],
    ['no model', 'key-b', partnerOrder(fields), 400],
    ['empty model', 'key-b', partnerOrder(fields, Buffer.alloc(0)), 400],
    ['no external_id', 'key-b', partnerOrder({ ...fields, external_id: '' }, model), 400],
    ['quantity in words', 'key-b', partnerOrder({ ...fields, quantity: 'two' }, model), 400],
    [
      'field too long',
      'key-b',
      partnerOrder({ ...fields, comment: 'x'.repeat(20_000) }, model),
      413,
    ],
  ]
  for (const [what, key, body, status] of cases) {
    const answer = await submitAsPartner(key, body)
    t.is(answer.status, status, what)
    const { error } = await readJson<{ error: unknown }>(answer)
    t.is(typeof error, 'string', what)
  }
  t.deepEqual(await mes.legacy.query('mes', `SELECT id FROM orders WHERE external_id = 'bad'`), [])
  t.deepEqual(
    (await readdir(join(mes.legacy.models, 'incoming'))).filter((name) => name.startsWith('mes-')),
    [],
  )
})
