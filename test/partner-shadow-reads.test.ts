import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'

import test from 'ava'

import { freePort } from '../estate/free-port.ts'
import { fetchFrom } from '../strangler-proxy/stub-client.ts'
import { call, formBytes, partnerKeys } from './partner-fixture.ts'
import {
  fieldsWith,
  model,
  play,
  type ShadowEstate,
  startShadowEstate,
} from './partner-shadow-fixture.ts'

/*
 * What the shadow may cost those whom it looks at (nothing, whatever becomes of the intake), and its second half: a partner behind
 * the intake reads, and the MES is asked as well.
 */

let world: ShadowEstate

test.before(async () => {
  world = await startShadowEstate()
})
test.after.always(() => world?.stop())

/** The resident size of a process, in MB. */
async function residentMb(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+) kB/u.exec(status)?.[1]) / 1024
}

const troubles = ['hung', 'slow', 'resetting', 'failing'] as const

test.serial(
  'a shadow that is down, hung, slow, resetting or failing costs partners nothing',
  async (t) => {
    t.timeout(180_000)
    let trouble: (typeof troubles)[number] = 'hung'
    const played = await play(t, (request, response) => {
      if (trouble === 'resetting') request.socket.resetAndDestroy()
      else if (trouble === 'failing') response.writeHead(500).end('{}')
      else if (trouble === 'slow') {
        // A byte at a time, for ever: it is always on its way.
        response.writeHead(201, { 'x-strangler-shadow': 'answer' })
        const drip = setInterval(() => response.write(' '), 20)
        response.on('close', () => clearInterval(drip))
      }
    })
    // A MES that costs nothing: the proxy is looked at.
    const cheapMes = await play(t, (request, response) => {
      request.resume().on('end', () => response.writeHead(201).end('{"id":"x"}'))
    })
    const adminPort = await freePort()
    const { port, process } = await world.proxyTo(t, {
      MES_UPSTREAM: cheapMes.origin,
      INTAKE_UPSTREAM: played.origin,
      PARTNER_SHADOW_TIMEOUT_MS: '300',
      ADMIN_PORT: String(adminPort),
    })
    const big = { fields: fieldsWith(), model: Buffer.alloc(90_000_000, 'solid') }
    const { body, contentType } = formBytes(big)
    const small = formBytes({ fields: fieldsWith(), model })
    const send = (form: { body: Buffer; contentType: string }) =>
      fetchFrom(port, '/api/partner/v1/orders', {
        method: 'POST',
        headers: { 'x-api-key': partnerKeys.Acme, 'content-type': form.contentType },
        body: form.body,
      })
    const atRest = await residentMb(process.pid)
    let most = atRest
    let looked = 0
    const looking = new AbortController()
    const look = async (): Promise<void> => {
      while (!looking.signal.aborted) {
        looked += 1
        most = Math.max(most, await residentMb(process.pid))
        await new Promise((resolve) => {
          setTimeout(resolve, 10)
        })
      }
    }
    t.teardown(() => looking.abort())
    const looks = look()
    for (const each of troubles) {
      trouble = each
      const counts = await world.counted('Acme', 'POST /orders', 4, async () => {
        const answers = await Promise.all([
          send({ body, contentType }),
          ...[1, 2, 3].map(() => send(small)),
        ])
        t.deepEqual(
          answers.map(({ status }) => status),
          [201, 201, 201, 201],
          each,
        )
      })
      t.deepEqual({ each, ...counts }, { each, eligible: 4, compared: 0, differing: 0, dropped: 4 })
    }
    // More than may wait: what has no place is dropped, and counted as well.
    trouble = 'hung'
    const metrics = async () => (await call(`http://127.0.0.1:${adminPort}/metrics`)).text
    const isBusy = /^strangler_proxy_shadow_dropped_total\{reason="busy"\} [1-9]/mu
    let sent = 0
    const flood = await world.counted('Acme', 'POST /orders', 100, async () => {
      while (sent < 800 && !isBusy.test(await metrics())) {
        const answers = await Promise.all(Array.from({ length: 40 }, () => send(small)))
        t.true(answers.every(({ status }) => status === 201))
        sent += answers.length
      }
    })
    t.deepEqual(flood, { eligible: sent, compared: 0, differing: 0, dropped: sent })
    t.regex(await metrics(), isBusy)
    t.regex(await metrics(), /^strangler_proxy_shadow_under_way 0$/mu)
    await played.close()
    const down = await world.counted('Acme', 'POST /orders', 1, () => send({ body, contentType }))
    t.deepEqual(down, { eligible: 1, compared: 0, differing: 0, dropped: 1 })
    looking.abort()
    await looks
    t.true(looked > 50)
    t.true(most - atRest < 64, `${Math.round(atRest)} MB at rest, ${Math.round(most)} MB at most`)
    t.log(`${Math.round(atRest)} MB at rest, ${Math.round(most)} MB at most`)
    t.deepEqual(await world.differencesOf('Acme'), [])
  },
)

const boltIds = [randomUUID(), randomUUID(), randomUUID()] as const
const bolt = { headers: { 'x-api-key': partnerKeys.Bolt } }

/** The same orders on both sides, as an import leaves them. */
async function ordersOfBolt(): Promise<void> {
  for (const [n, id] of boltIds.entries()) {
    const values = [id, `b-${n}`, n === 2 ? 'for Zelda' : null, new Date(Date.UTC(2026, 0, n + 1))]
    await world.mes.query(
      `INSERT INTO orders (order_id, source, external_id, partner, status, model_key, model_sha256, model_bytes, material, quantity,
         comment, price, currency, received_at, updated_at)
       VALUES ($1, 'partner', $2, 'Bolt', 'SHIPPED', 'k', 's', 1, 'PLA', 2, $3, 12.5, 'EUR', $4, $4)`,
      values,
    )
    await world.intake.query(
      `INSERT INTO partner_order (id, external_id, partner, born, path_epoch, path_reason, status, model_key, model_sha256, model_bytes,
         material, quantity, comment, price, currency, created_at, updated_at)
       VALUES ($1, $2, 'Bolt', 'mes', 0, '{}', 'SHIPPED', 'k', 's', 1, 'PLA', 2, $3, 12.5, 'EUR', $4, $4)`,
      values,
    )
  }
}

test.serial('what a partner behind the intake reads, the MES says too', async (t) => {
  await ordersOfBolt()
  const one = await world.counted('Bolt', 'GET /orders/:id', boltIds.length + 1, async () => {
    for (const id of boltIds) t.is((await call(`${world.doorApi}/orders/${id}`, bolt)).status, 200)
    t.is((await call(`${world.doorApi}/orders/${randomUUID()}`, bolt)).status, 404)
  })
  t.deepEqual(one, { eligible: 4, compared: 4, differing: 0, dropped: 0 })
  const list = await world.counted('Bolt', 'GET /orders', 4, async () => {
    for (const query of ['', '?status=SHIPPED&page=1', '?page=7', '?page=0'])
      await call(`${world.doorApi}/orders${query}`, bolt)
  })
  t.deepEqual(list, { eligible: 4, compared: 4, differing: 0, dropped: 0 })
  t.deepEqual(await world.differencesOf('Bolt'), [])
})

test.serial('an order that the MES has otherwise is found, by id and in the list', async (t) => {
  const [first, second, third] = boltIds
  await world.mes.query(`UPDATE orders SET quantity = 3, price = 13 WHERE order_id = $1`, [first])
  await world.mes.query(`UPDATE orders SET comment = 'for Quux' WHERE order_id = $1`, [third])
  const one = await world.counted('Bolt', 'GET /orders/:id', 3, async () => {
    for (const id of boltIds) await call(`${world.doorApi}/orders/${id}`, bolt)
  })
  t.like(one, { compared: 3, differing: 2, dropped: 0 })
  const list = await world.counted('Bolt', 'GET /orders', 1, () =>
    call(`${world.doorApi}/orders`, bolt),
  )
  t.like(list, { compared: 1, differing: 1 })
  const found = await world.differencesOf('Bolt')
  for (const endpoint of ['GET /orders/:id', 'GET /orders']) {
    const here = found.filter((each) => each.endpoint === endpoint)
    t.deepEqual(
      here.map(({ order, field }) => `${order} ${field}`).toSorted(),
      [`${first} quantity`, `${first} price`, `${third} comment`].toSorted(),
    )
    t.like(
      here.find(({ field }) => field === 'quantity'),
      { ours: '2', theirs: '3' },
    )
    t.like(
      here.find(({ field }) => field === 'price'),
      { ours: '12.50', theirs: '13.00' },
    )
    t.regex(here.find(({ field }) => field === 'comment')?.theirs ?? '', /^sha256:/)
  }
  await world.forgetDifferences()
  await world.mes.query(`UPDATE orders SET quantity = 2, price = 12.5 WHERE order_id = $1`, [first])
  await world.mes.query(`DELETE FROM orders WHERE order_id = ANY($1)`, [[second, third]])
  await world.counted('Bolt', 'GET /orders', 1, () => call(`${world.doorApi}/orders`, bolt))
  await world.counted('Bolt', 'GET /orders/:id', 1, () =>
    call(`${world.doorApi}/orders/${second}`, bolt),
  )
  t.deepEqual(
    (await world.differencesOf('Bolt')).map(({ field, ours, theirs }) => ({ field, ours, theirs })),
    [
      { field: 'orders', ours: `1. of 3: ${third}`, theirs: `1. of 1: ${first}` },
      { field: 'total', ours: '3', theirs: '1' },
      { field: 'http_status', ours: '200', theirs: '404 there is no such order' },
    ],
  )
  await world.forgetDifferences()
})

test.serial('what is on its way, or not at the MES yet, counts only after the grace', async (t) => {
  const [id] = boltIds
  const theirs = (await call(`${world.mesApi}/orders/${id}`, bolt)).text
  const heard: string[] = []
  const answers = [
    () => ({ status: 404, body: '{"error":"there is no such order"}' }),
    () => ({ status: 200, body: theirs }),
    () => ({ status: 200, body: theirs.replace('SHIPPED', 'PACKAGING') }),
    () => ({ status: 200, body: theirs }),
  ]
  const played = await play(t, (request, response) => {
    const { 'x-api-key': key, 'x-strangler-shadow': shadow } = request.headers
    heard.push(`${request.method} ${request.url} ${String(key)} ${String(shadow)}`)
    const { status, body } = answers.shift()!()
    response.writeHead(status, { 'content-type': 'application/json; charset=utf-8' }).end(body)
  })
  const { api } = await world.proxyTo(t, { MES_UPSTREAM: played.origin })
  for (const asked of [2, 4]) {
    const counts = await world.counted('Bolt', 'GET /orders/:id', 1, () =>
      call(`${api}/orders/${id}`, bolt),
    )
    t.deepEqual(counts, { eligible: 1, compared: 1, differing: 0, dropped: 0 })
    t.is(heard.length, asked, 'once more after the grace')
  }
  t.deepEqual(new Set(heard), new Set([`GET /api/partner/v1/orders/${id} ${partnerKeys.Bolt} ask`]))
  t.deepEqual(await world.differencesOf('Bolt'), [])
})

test.serial('an order that waits for its turn at the MES is compared with nothing', async (t) => {
  const [id] = boltIds
  const none = { status: 404, body: '{"error":"there is no such order"}' }
  let answer = none
  const played = await play(t, (_, response) => {
    response
      .writeHead(answer.status, { 'content-type': 'application/json; charset=utf-8' })
      .end(answer.body)
  })
  const { api } = await world.proxyTo(t, { MES_UPSTREAM: played.origin })
  await world.intake.query(`UPDATE partner_order SET status = 'SUBMITTED' WHERE id = $1`, [id])
  const one = await world.counted('Bolt', 'GET /orders/:id', 1, () =>
    call(`${api}/orders/${id}`, bolt),
  )
  t.deepEqual(one, { eligible: 1, compared: 0, differing: 0, dropped: 1 })
  answer = { status: 200, body: '{"orders":[],"page":1,"pages":1,"total":0}' }
  for (const query of ['?status=SUBMITTED', '?page=2']) {
    const list = await world.counted('Bolt', 'GET /orders', 1, () =>
      call(`${api}/orders${query}`, bolt),
    )
    t.deepEqual(list, { eligible: 1, compared: 0, differing: 0, dropped: 1 }, query)
  }
  await world.intake.query(`UPDATE partner_order SET status = 'SHIPPED' WHERE id = $1`, [id])
  const told = await world.counted('Bolt', 'GET /orders', 1, () => call(`${api}/orders`, bolt))
  t.like(told, { compared: 1, differing: 1 }, 'the MES told of it, and does not have it any more')
  t.deepEqual((await world.differencesOf('Bolt')).map(({ field }) => field).toSorted(), [
    'orders',
    'total',
  ])
  await world.forgetDifferences()
})
