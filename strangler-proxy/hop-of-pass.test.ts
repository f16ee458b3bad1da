import { readFile } from 'node:fs/promises'

import test from 'ava'
import pg from 'pg'

import { startEmbeddedPostgres } from '../estate/embedded-postgres.ts'
import { spawnDoor } from './spawned-door.ts'
import { fetchFrom } from './stub-client.ts'
import { httpStub } from './stub-upstream.ts'

const order = '3f2b8c1e-9a4d-4e6f-8b7a-0123456789ab'

test('every request that may have moved an order leaves one pass in the ledger, and no path or person; others leave none', async (t) => {
  const postgres = await startEmbeddedPostgres()
  t.teardown(() => postgres.stop())
  const url = await postgres.createDatabase('strangler')
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  t.teardown(() => client.end())
  await client.query(
    await readFile(new URL('../migrations/strangler/001_ledger.sql', import.meta.url), 'utf8'),
  )

  const upstream = await httpStub(t, (request, response) => {
    request.resume()
    request.on('end', () => {
      const refused = /^\/refused\/(\d+)/.exec(request.url ?? '')?.[1]
      response.statusCode = Number(refused ?? (request.method === 'PUT' ? 200 : 409))
      response.end('hello')
    })
  })
  const door = await spawnDoor(t, upstream.origin, { LEDGER_URL: url })
  await fetchFrom(door.ports.shop, `/api/orders/${order}/model`, { method: 'PUT', body: 'abc' })
  await fetchFrom(door.ports.crm, `/api/orders/${order.toUpperCase()}/approve?by=ann@example.org`, {
    method: 'POST',
  })
  await fetchFrom(door.ports.crm, `/orders/${order}/close`, { method: 'POST' })
  await fetchFrom(door.ports.mes, `/people/ann/orders/${order}/x`, { method: 'DELETE' })
  // What changes nothing, or names an order that nobody knows, is no step of anything's way.
  await fetchFrom(door.ports.mes, '/', { method: 'POST' })
  await fetchFrom(door.ports.mes, `/orders/${order}`)
  await fetchFrom(door.ports.mes, `/orders/${order}`, { method: 'HEAD' })
  for (const status of [400, 404, 405, 422])
    await fetchFrom(door.ports.shop, `/refused/${status}/orders/${order}`, { method: 'POST' })
  door.terminate()
  t.is(await door.exited, 0)

  const { rows } = await client.query<{
    order_id: string
    hop: string
    kind: string
    actor: string
    sane: boolean
    detail: Record<string, unknown>
  }>(
    `SELECT order_id, hop, kind, actor, detail,
       at <= left_at AND left_at <= clock_timestamp() AND at > clock_timestamp() - interval '1 minute' AS sane
     FROM order_event ORDER BY seq`,
  )
  t.deepEqual(
    rows.map(({ detail: { pass: _pass, ...detail }, ...row }) => ({ ...row, detail })),
    [
      {
        hop: 'proxy:shop',
        detail: { method: 'PUT', route: '/api/orders/:id/model', status: 200, bytesIn: 3 },
      },
      {
        hop: 'proxy:crm',
        detail: { method: 'POST', route: '/api/orders/:id/approve', status: 409, bytesIn: 0 },
      },
      {
        hop: 'proxy:crm',
        detail: { method: 'POST', route: '/orders/:id/close', status: 409, bytesIn: 0 },
      },
      {
        hop: 'proxy:mes',
        detail: { method: 'DELETE', route: '/*/orders/:id/*', status: 409, bytesIn: 0 },
      },
    ].map(({ hop, detail }) => ({
      order_id: order,
      hop,
      kind: 'pass',
      actor: 'strangler-proxy',
      sane: true,
      detail: { ...detail, outcome: 'passed', traceId: order.replaceAll('-', ''), bytesOut: 5 },
    })),
  )
  t.false(JSON.stringify(rows).includes('ann'))
})
