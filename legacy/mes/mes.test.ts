import { randomUUID } from 'node:crypto'

import test from 'ava'

import type { Delivery } from '../broker/broker-port.ts'
import { eventually, readJson } from '../legacy-under-test.ts'
import { binaryStl, MesUnderTest, referenceTo, submitted } from './mes-under-test.ts'

let mes: MesUnderTest
test.before(async () => {
  mes = await MesUnderTest.start()
})
test.after.always(() => mes?.stop())

test('the same message twice is two rows of work, and both are priced', async (t) => {
  const id = randomUUID()
  const message = submitted(id, await mes.putModel(binaryStl(2)))
  await mes.tell('order.submitted', message)
  await mes.tell('order.submitted', message)
  await eventually(async () => mes.events(id, 'order.price_calculated').length === 2)
  const rows = await mes.rows(id)
  t.deepEqual(
    rows.map((row) => row.status),
    ['PRICE_CALCULATED', 'PRICE_CALCULATED'],
  )
  const found = await fetch(`${mes.origin}/api/orders/${id}`)
  t.is((await readJson<unknown[]>(found)).length, 2)
  t.is((await fetch(`${mes.origin}/api/orders/${randomUUID()}`)).status, 404)
})

test('a price keeps its two decimals on the wire, and is of the bytes that were read', async (t) => {
  const id = randomUUID()
  const model = await mes.putModel(binaryStl(500))
  await mes.tell('order.submitted', submitted(id, model))
  const event = await eventually(async () => mes.events(id, 'order.price_calculated')[0])
  const text = event.body.toString()
  t.true(text.endsWith(',"price":2.60,"currency":"EUR"}'), text)
  t.like(JSON.parse(text), { orderId: id, source: 'shop', status: 'PRICE_CALCULATED' })
  t.like(event.properties, { contentType: 'application/json', headers: { 'x-sender': 'mes' } })
  t.like((await mes.rows(id))[0], { price: '2.60', model_read_sha256: model.sha256 })
})

test('a model that comes after its order holds up nobody else', async (t) => {
  const late = randomUUID()
  const prompt = randomUUID()
  const content = Buffer.from(`solid late ${late}\n${'facet normal 0 0 0\n'.repeat(60)}`)
  await mes.tell('order.submitted', submitted(late, referenceTo(content)))
  const there = await mes.putModel(binaryStl(3))
  await mes.tell('order.submitted', submitted(prompt, there))
  await eventually(async () => (await mes.rows(prompt))[0]?.price)
  t.is((await mes.rows(late))[0]?.price, null)
  await mes.putModel(content)
  t.is(await eventually(async () => (await mes.rows(late))[0]?.price ?? undefined), '2.52')
})

test('of two operators one gets the order, and it goes its way to the end', async (t) => {
  const id = await mes.approvedOrder()
  const names = ['Ada', 'Bob', 'Cid', 'Dot']
  const answers = await Promise.all(names.map((operator) => mes.step(id, 'take', { operator })))
  t.deepEqual(
    answers.map(({ status }) => status).toSorted((a, b) => a - b),
    [303, 409, 409, 409],
  )
  const [taken] = await mes.rows(id)
  const winner = names[answers.findIndex(({ status }) => status === 303)]
  t.like(taken, { operator: winner, status: 'MANUFACTURING_STARTED' })
  const refused = answers.find(({ status }) => status === 409)
  t.true((await refused?.text())?.includes(`taken by ${winner}`))

  t.is((await mes.step(id, 'ship')).status, 409)
  for (const name of ['complete', 'pack', 'ship']) {
    const answer = await mes.step(id, name, { back: 'status=PACKAGING&page=1' })
    t.deepEqual([answer.status, answer.headers.get('location')], [303, '/?status=PACKAGING&page=1'])
  }
  await mes.tell('order.closed', { orderId: id, source: 'shop' })
  await eventually(async () => (await mes.rows(id))[0]?.status === 'CLOSED')
  await eventually(async () => mes.events(id, 'order.status_changed').length === 4)
  t.deepEqual(
    mes.events(id, 'order.status_changed').map((event) => statusIn(event)),
    ['MANUFACTURING_STARTED', 'MANUFACTURING_COMPLETED', 'PACKAGING', 'SHIPPED'],
  )
})

function statusIn(event: Delivery): unknown {
  const { status }: { status: unknown } = JSON.parse(event.body.toString())
  return status
}

test('what it cannot read or does not hold is passed over', async (t) => {
  await mes.tell('order.submitted', '{')
  await mes.tell('order.submitted', { orderId: randomUUID() })
  await mes.tell('order.approved', { orderId: randomUUID() })
  await mes.tell('order.closed', { orderId: 7 })
  t.truthy(await mes.approvedOrder())
})

test('operators refused get words, not a crash', async (t) => {
  const id = await mes.approvedOrder()
  t.is((await mes.step(id, 'take')).status, 422)
  t.is((await mes.step(id, 'take', { operator: ' ' })).status, 422)
  t.is((await mes.step(randomUUID(), 'take', { operator: 'A' })).status, 404)
  t.is((await mes.step('a:b', 'take', { operator: 'A' })).status, 404)
  t.is((await fetch(`${mes.origin}/?page=x`)).status, 422)
  const page = await (await fetch(`${mes.origin}/orders/${id}`)).text()
  t.true(page.includes('&lt;i&gt;no&lt;/i&gt;') && !page.includes('<i>no</i>'))
  t.true(page.includes(`action="/orders/${id}/take"`))
})

test('an open page hears of a new order at once', async (t) => {
  const stream = await fetch(`${mes.origin}/events`)
  const reader = stream.body?.pipeThrough(new TextDecoderStream()).getReader()
  const id = randomUUID()
  await mes.tell('order.submitted', submitted(id, await mes.putModel(binaryStl(1))))
  let heard = ''
  while (!heard.includes(id)) heard += (await reader?.read())?.value ?? ''
  t.true(heard.includes(`event: orders\ndata: {"orderId":"${id}","status":"SUBMITTED"}\n\n`), heard)
  await reader?.cancel()
})
