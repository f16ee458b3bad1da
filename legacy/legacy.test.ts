import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'

import test from 'ava'

import {
  eventually,
  legacyUnderTest,
  readJson,
  type LegacyUnderTest,
  type Started,
} from './legacy-under-test.ts'

let legacy: LegacyUnderTest
let shop: Started
let crm: Started
let mes: Started

test.before(async () => {
  legacy = await legacyUnderTest()
  ;[shop, crm, mes] = await Promise.all([
    legacy.start('shop'),
    legacy.start('crm'),
    legacy.start('mes'),
  ])
})
test.after.always(() => legacy?.stop())

type Order = { id: string; status: string; price: string | null }

async function send(method: string, url: string, body?: string): Promise<Order> {
  const response = await fetch(url, { method, ...(body === undefined ? {} : { body }) })
  if (!response.ok) throw new Error(`${method} ${url}: ${response.status}`)
  return readJson<Order>(response)
}

async function post(url: string, fields: Readonly<Record<string, string>> = {}): Promise<void> {
  const body = new URLSearchParams(fields)
  const answer = await fetch(url, { method: 'POST', body, redirect: 'manual' })
  if (answer.status !== 303) throw new Error(`${url}: ${answer.status}`)
}

/** From the customer's order to CLOSED, over everybody's own pages. */
async function oneOrder(): Promise<Order> {
  const api = `${shop.origin}/api/orders`
  const { id } = await send('POST', api, JSON.stringify({ material: 'PLA', quantity: 2 }))
  await send('PUT', `${api}/${id}/model`, `solid x\nfacet normal 0 0 1\n`)
  await send('POST', `${api}/${id}/submit`)
  const reaches = (status: string) =>
    eventually(async () => {
      const order = await send('GET', `${api}/${id}`)
      return order.status === status && order
    })
  const atMes = (status: string) =>
    eventually(async () => {
      const [row] = await legacy.query(
        'mes',
        'SELECT 1 FROM orders WHERE order_id = $1 AND status = $2',
        [id, status],
      )
      return row !== undefined
    })
  await reaches('PRICE_CALCULATED')
  await post(`${crm.origin}/orders/${id}/approve`)
  await atMes('MANUFACTURING_APPROVED')
  await post(`${mes.origin}/orders/${id}/take`, { operator: 'Ada' })
  for (const step of ['complete', 'pack', 'ship']) await post(`${mes.origin}/orders/${id}/${step}`)
  await reaches('SHIPPED')
  await post(`${crm.origin}/orders/${id}/close`)
  await atMes('CLOSED')
  return reaches('CLOSED')
}

test.serial('an order goes from the customer through all three to CLOSED', async (t) => {
  t.like(await oneOrder(), { status: 'CLOSED', price: '5.02' })
})

test.serial('all three outlive a PostgreSQL that is killed under them', async (t) => {
  await legacy.killPostgres()
  await eventually(async () => {
    const answers = await Promise.all([shop, crm, mes].map(({ origin }) => fetch(origin)))
    return answers.every(({ ok }) => ok)
  })
  // The brokers' links come back in their own time; until then an order is lost, as it is in life.
  await eventually(async () => {
    const links = await legacy.query(
      'broker',
      `SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'legacy-broker-%'`,
    )
    return links.length === 4
  })
  t.like(await oneOrder(), { status: 'CLOSED' })
})

test.serial('SIGTERM ends each of them with 0, also with a page open', async (t) => {
  const page = await fetch(`${mes.origin}/events`)
  const exits = await Promise.all([shop, crm, mes].map((service) => service.process.terminate()))
  t.deepEqual(
    exits.map(({ code }) => code),
    [0, 0, 0],
  )
  await page.text()
})

for (const service of ['shop', 'crm', 'mes']) {
  test.serial(
    `${service} names every mistake in its settings at once and does not start`,
    async (t) => {
      const child = spawn(process.execPath, [join(import.meta.dirname, service, 'main.ts')], {
        env: { PORT: 'x', BROKER_URL: 'http://nowhere', SHOP_DATABASE_URL: 'nonsense' },
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      let said = ''
      child.stderr.on('data', (chunk) => (said += String(chunk)))
      const [code] = await once(child, 'close')
      t.is(code, 1)
      t.regex(said, /PORT is not a number.*(BROKER_URL is not|MODEL_DIR is missing)/u)
    },
  )
}
