import { randomUUID } from 'node:crypto'

import test from 'ava'

import type { Broker, Delivery } from '../broker/broker-port.ts'
import { connectBroker } from '../broker/broker.ts'
import { gateBefore, type Gate } from '../gate-under-test.ts'
import { eventually, legacyUnderTest, type LegacyUnderTest } from '../legacy-under-test.ts'

let legacy: LegacyUnderTest
let crm: string
let gate: Gate
let broker: Broker
const received: Delivery[] = []

test.before(async () => {
  legacy = await legacyUnderTest()
  gate = await gateBefore(legacy.urls.broker)
  crm = (await legacy.start('crm', { BROKER_URL: gate.url })).origin
  broker = await connectBroker(legacy.urls.broker, { log: () => {} })
  broker.consume('mes.orders', 10, async (delivery) => {
    received.push(delivery)
  })
})
test.after.always(async () => {
  await broker?.close()
  await legacy?.stop()
})

async function tell(key: string, message: object | string): Promise<void> {
  const text = typeof message === 'string' ? message : JSON.stringify(message)
  await broker.publishConfirmed('mes.events', key, Buffer.from(text), {})
}

async function submittedOrder({
  clientId = null,
  status = 'SUBMITTED',
}: { clientId?: number | null; status?: string } = {}): Promise<string> {
  const id = randomUUID()
  await legacy.query(
    'shop',
    `INSERT INTO orders (id, client_id, status, model_key, model_sha256, model_bytes, material, quantity, comment)
     VALUES ($1, $2, $3, 'models/ab/cd', 'cd', 7, 'PLA', 2, NULL)`,
    [id, clientId, status],
  )
  return id
}

function messageOf(id: string, key: string) {
  return received.find(
    (delivery) => delivery.routingKey === key && delivery.body.includes(`"orderId":"${id}"`),
  )
}

async function shopOrder(id: string) {
  const [order] = await legacy.query<{
    status: string
    price: string
    source: string
    crm_sent_at: Date | null
  }>('shop', 'SELECT status, price, source, crm_sent_at FROM orders WHERE id = $1', [id])
  return order
}

test.serial('forwards a submitted order, keys in their order, tier from the points', async (t) => {
  for (const [points, tier] of [
    ['99.99', 'standard'],
    ['100', 'silver'],
    ['1000', 'gold'],
    [null, 'guest'],
  ] as const) {
    let clientId: number | null = null
    if (points !== null) {
      const [client] = await legacy.query<{ id: string }>(
        'shop',
        `INSERT INTO clients (email, full_name, password_hash, loyalty_points) VALUES ($1, 'A', 'x', $2) RETURNING id`,
        [randomUUID(), points],
      )
      clientId = Number(client?.id)
    }
    const id = await submittedOrder({ clientId })
    const delivery = await eventually(async () => messageOf(id, 'order.submitted'))
    const text = delivery.body.toString('utf8')
    const at = /"occurredAt":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)"/u.exec(text)?.[1]
    t.is(
      text,
      `{"orderId":"${id}","source":"shop","status":"SUBMITTED","occurredAt":"${at}","clientId":${clientId},` +
        `"customerTier":"${tier}","material":"PLA","quantity":2,"comment":null,` +
        `"model":{"key":"models/ab/cd","sha256":"cd","bytes":7}}`,
    )
    t.like(delivery.properties, {
      contentType: 'application/json',
      headers: { 'x-sender': 'crm' },
    })
    t.is(delivery.properties.messageId, undefined)
  }
})

test.serial('marks first and sends after: an order is lost while the broker is away', async (t) => {
  await gate.shut()
  const lost = await submittedOrder()
  await eventually(async () => (await shopOrder(lost))?.crm_sent_at !== null)
  await gate.open()
  // One that arrives behind it proves that the lost one is not merely late.
  const arrived = await eventually(async () => {
    const id = await submittedOrder()
    await eventually(async () => (await shopOrder(id))?.crm_sent_at !== null)
    return messageOf(id, 'order.submitted')
  })
  t.truthy(arrived)
  t.is(messageOf(lost, 'order.submitted'), undefined)
})

test.serial(
  'writes what the MES tells into the Shop DB and passes over what it cannot read',
  async (t) => {
    const id = randomUUID()
    await tell('order.created', 'not JSON')
    await tell('order.created', { orderId: 'x' })
    await tell('order.unknown', { orderId: id })
    const created = {
      orderId: id,
      source: 'partner',
      status: 'SUBMITTED',
      externalId: 'E-1',
      material: 'PLA',
      quantity: 1,
      comment: null,
      model: { key: 'models/ab/cd', sha256: 'cd', bytes: 1 },
    }
    await tell('order.created', created)
    await tell('order.created', created)
    await tell('order.created', { ...created, orderId: randomUUID(), quantity: 1e15 })
    await tell('order.price_calculated', `{"orderId":"${id}","price":12.30,"currency":"EUR"}`)
    const priced = await eventually(async () => {
      const order = await shopOrder(id)
      return order?.status === 'PRICE_CALCULATED' && order
    })
    t.like(priced, { price: '12.30', source: 'partner' })
    t.is(messageOf(id, 'order.submitted'), undefined, 'a partner order is not sent back')
    await tell('order.status_changed', { orderId: id, status: 'PACKAGING' })
    await eventually(async () => (await shopOrder(id))?.status === 'PACKAGING')
  },
)

test.serial('sellers approve and close, each from one status only', async (t) => {
  const id = await submittedOrder({ status: 'PRICE_CALCULATED' })
  const list = await (await fetch(`${crm}/?status=PRICE_CALCULATED`)).text()
  t.true(list.includes(`action="/orders/${id}/approve"`))
  const early = await fetch(`${crm}/api/orders/${id}/close`, { method: 'POST' })
  t.is(early.status, 409)
  t.like(await early.json(), { error: { code: 'wrong_status' } })
  const form = await fetch(`${crm}/orders/${id}/approve`, { method: 'POST', redirect: 'manual' })
  t.deepEqual([form.status, form.headers.get('location')], [303, '/'])
  const approved = await eventually(async () => messageOf(id, 'order.approved'))
  t.like(JSON.parse(approved.body.toString()), { source: 'shop', status: 'MANUFACTURING_APPROVED' })
  const twice = await fetch(`${crm}/api/orders/${id}/approve`, { method: 'POST' })
  t.is(twice.status, 409)
  await legacy.query('shop', `UPDATE orders SET status = 'SHIPPED' WHERE id = $1`, [id])
  t.is((await fetch(`${crm}/api/orders/${id}/close`, { method: 'POST' })).status, 200)
  await eventually(async () => messageOf(id, 'order.closed'))
  for (const [path, status] of [
    [`/api/orders/${randomUUID()}/approve`, 404],
    ['/api/orders/a:b/approve', 404],
  ] as const) {
    t.is((await fetch(crm + path, { method: 'POST' })).status, status)
  }
  t.is((await fetch(`${crm}/api/orders?status=NONE`)).status, 422)
  t.is((await fetch(`${crm}/api/orders?page=0`)).status, 422)
})

test.serial('reads and changes clients, and has no right to anything more', async (t) => {
  const [row] = await legacy.query<{ id: string }>(
    'shop',
    `INSERT INTO clients (email, full_name, password_hash) VALUES ($1, 'Old', 'secret') RETURNING id`,
    [randomUUID()],
  )
  const url = `${crm}/api/clients/${row?.id}`
  const body = JSON.stringify({ full_name: 'New', address: { city: 'Brno' } })
  const changed = await fetch(url, { method: 'PUT', body })
  t.is(changed.status, 200)
  t.like(await (await fetch(url)).json(), { full_name: 'New', address: { city: 'Brno' } })
  t.false((await (await fetch(url)).text()).includes('secret'))
  t.is((await fetch(url, { method: 'PUT', body: '{' })).status, 400)
  t.is((await fetch(`${crm}/api/clients/0`)).status, 404)
  const [right] = await legacy.query<{ reads: boolean; deletes: boolean }>(
    'shop',
    `SELECT has_column_privilege('crm', 'clients', 'password_hash', 'SELECT') AS reads,
       has_table_privilege('crm', 'orders', 'DELETE') AS deletes`,
  )
  t.deepEqual(right, { reads: false, deletes: false })
})
