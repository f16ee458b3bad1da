import { randomUUID } from 'node:crypto'
import { readdir, rename } from 'node:fs/promises'
import { createServer, request as httpRequest } from 'node:http'
import { join } from 'node:path'

import test, { type ExecutionContext } from 'ava'

import type { NodeProcess } from '../estate/child-process.ts'
import type { ProcessName } from '../estate/estate.ts'
import { type PartnerTally, submitUntilAccepted } from '../estate/partner-client.ts'
import { createLog } from '../runtime/log.ts'
import { createPool, type Pool } from '../runtime/postgres.ts'
import {
  call,
  type PartAnswer,
  type PartnerEstate,
  partnerKeys,
  startPartnerEstate,
  submit,
  wholeWay,
} from './partner-fixture.ts'
import { waitUntil } from './wait-until.ts'

/*
 * A process of the partners' way dies at each of its steps, or what it stands on is away. Whoever was not answered sends the same
 * again, and there is one order, everywhere.
 */

let world: PartnerEstate
let mes: Pool
let shop: Pool

const pool = (url: string): Pool => createPool(url, { name: 'test', log: createLog('test') })

test.before(async () => {
  world = await startPartnerEstate({
    without: ['shop', 'proxy', 'applier', 'shadow'],
    with: wholeWay,
    settings: {
      mes: { MES_PRICE_US_PER_TRIANGLE: '0' },
      'intake-feed': { FORWARD_SETTLE_MS: '6000' },
      intake: { MES_ANSWER_MS: '2000' },
    },
  })
  mes = pool(world.estate.databases.mes)
  shop = pool(world.estate.databases.shop)
  const { code, stderr } = await world.estate.strangler('bridge', 'insert')
  if (code !== 0) throw new Error(stderr)
})
test.after.always(async () => {
  await Promise.all([mes, shop].map((each) => each?.end()))
  await world?.stop()
})

function order(externalId: string) {
  return {
    fields: Object.entries({ external_id: externalId, material: 'PLA', quantity: '1' }),
    model: Buffer.from(`solid ${externalId}\nendsolid\n`),
  }
}

async function untilAccepted(externalId: string): Promise<{ id: string; tally: PartnerTally }> {
  const tally = { sent: 0, failed: 0, replayed: 0 }
  const { fields, model } = order(externalId)
  const id = await submitUntilAccepted(
    () => world.intakeApi,
    partnerKeys.Acme,
    { externalId, fields: Object.fromEntries(fields), model: new Uint8Array(model) },
    { tally, again: 1, cutAfterMs: () => undefined },
  )
  return { id, tally }
}

async function expectOnce(t: ExecutionContext, externalId: string, id: string): Promise<void> {
  for (const [side, from, sql] of [
    ['the MES', mes, 'SELECT order_id::text AS id FROM orders WHERE external_id = $1'],
    ['the Shop', shop, 'SELECT id::text FROM public.orders WHERE external_id = $1'],
    ['the intake', world.intake, 'SELECT id::text FROM partner_order WHERE external_id = $1'],
  ] as const) {
    const read = async () => (await from.query<{ id: string }>(sql, [externalId])).rows
    await waitUntil(`${side} has it`, async () => (await read()).length > 0)
    t.deepEqual(await read(), [{ id }], side)
  }
}

/** Up again, and doomed to die there. */
async function doom(
  name: ProcessName,
  point: string,
): Promise<{ readonly died: Promise<unknown> }> {
  await world.estate.process(name).terminate()
  const doomed = await world.estate.launch(name, { FAILPOINTS: `${point}=kill` })
  return { died: doomed.exited }
}

async function again(name: ProcessName): Promise<void> {
  await world.estate.launch(name)
}

const accepting = {
  'intake.model-written': 'the file is complete, and has no name',
  'intake.model-stored': 'the model is there, and no row names it',
  'intake.before-commit': 'nothing is accepted',
  'intake.committed': 'accepted, and nobody was told',
}

for (const [point, meaning] of Object.entries(accepting)) {
  test.serial(`the intake dies at ${point}: ${meaning}`, async (t) => {
    await world.route(10_000)
    const { died } = await doom('intake', point)
    const externalId = randomUUID()
    await t.throwsAsync(submit(world.intakeApi, partnerKeys.Acme, order(externalId)))
    await died
    await again('intake')
    const incoming = await readdir(join(world.estate.modelDirectory, 'incoming'))
    t.deepEqual(
      incoming.filter((name) => name.startsWith('intake-')),
      [],
      'swept up at the start',
    )
    const { id, tally } = await untilAccepted(externalId)
    // Of the two that were answered the first is new, or both are the answer to the one that was lost.
    t.is(tally.replayed, point === 'intake.committed' ? 2 : 1)
    await expectOnce(t, externalId, id)
  })
}

const forwarding = {
  'intake.forwarding': 'the MES has not been asked: the keys come free',
  'intake.forwarded': 'the MES has made the order: its answer becomes the answer',
}

for (const [point, meaning] of Object.entries(forwarding)) {
  test.serial(`the intake dies at ${point}: ${meaning}`, async (t) => {
    await world.route(0)
    const { died } = await doom('intake', point)
    const externalId = randomUUID()
    await t.throwsAsync(submit(world.intakeApi, partnerKeys.Acme, order(externalId)))
    await died
    await again('intake')
    const { id } = await untilAccepted(externalId)
    await expectOnce(t, externalId, id)
  })
}

/** Another instance of the intake, beside the one that the estate has. */
async function another(
  settings: Readonly<Record<string, string>>,
): Promise<{ readonly process: NodeProcess; readonly api: string }> {
  await world.estate.process('intake').terminate()
  const process = await world.estate.launch('intake', {
    PORT: '0',
    INTAKE_NAME: 'another',
    ...settings,
  })
  await again('intake')
  return { process, api: `http://127.0.0.1:${process.port}/api/partner/v1` }
}

test.serial('an intake that stood still before it asked the MES asks no more', async (t) => {
  await world.route(0)
  const { process, api } = await another({ FAILPOINTS: 'intake.forwarding=stop' })
  const stopped = new Promise<void>((resolve) => {
    process.onLine((line) => {
      if (line.includes('failpoint intake.forwarding stop')) resolve()
    })
  })
  const externalId = randomUUID()
  const late = submit(api, partnerKeys.Acme, order(externalId))
  await stopped
  const { id } = await untilAccepted(externalId)
  process.resume()
  t.is((await late).status, 503)
  await process.terminate()
  await expectOnce(t, externalId, id)
})

test.serial('the MES answers with a failure after it has made the order', async (t) => {
  await world.route(0)
  const failing = createServer((request, response) => {
    const { method, headers } = request
    const onward = httpRequest(`${world.estate.legacy.mes}${request.url}`, { method, headers })
    onward.once('response', (answer) => {
      answer.resume()
      answer.once('end', () => response.writeHead(503).end('{"error":"not stored, try again"}'))
    })
    request.pipe(onward)
  })
  await new Promise<void>((resolve) => failing.listen(0, '127.0.0.1', resolve))
  const address = failing.address()
  if (address === null || typeof address === 'string') throw new Error('no TCP port')
  const { process, api } = await another({ MES_UPSTREAM: `http://127.0.0.1:${address.port}` })
  const externalId = randomUUID()
  t.is((await submit(api, partnerKeys.Acme, order(externalId))).status, 502)
  const { id } = await untilAccepted(externalId)
  await process.terminate()
  failing.close()
  await expectOnce(t, externalId, id)
})

test.serial(
  'an order of other content that the MES has got past the intake keeps its external id',
  async (t) => {
    await world.route(0)
    const { process, api } = await another({ FAILPOINTS: 'intake.forwarding=kill' })
    const externalId = randomUUID()
    await t.throwsAsync(submit(api, partnerKeys.Acme, order(externalId)))
    await process.exited
    const past = { ...order(externalId), model: Buffer.from('another') }
    const { id }: { id: string } = JSON.parse(
      (await submit(world.mesApi, partnerKeys.Acme, past)).text,
    )
    const answers: PartAnswer[] = []
    await waitUntil('it is settled', async () => {
      answers.push(await submit(world.intakeApi, partnerKeys.Acme, order(externalId)))
      return answers.at(-1)!.status !== 409
    })
    t.is(answers.at(-1)!.status, 422)
    await expectOnce(t, externalId, id)
  },
)

for (const point of ['taken', 'told', 'accepted', 'rung'].map((each) => `intake-relay.${each}`)) {
  test.serial(`the relay of the intake dies at ${point}`, async (t) => {
    await world.route(10_000)
    const { died } = await doom('intake-relay', point)
    const externalId = randomUUID()
    const { id } = await untilAccepted(externalId)
    await died
    await again('intake-relay')
    await expectOnce(t, externalId, id)
  })
}

for (const point of ['taken', 'applied'].map((each) => `intake-feed.${each}`)) {
  test.serial(`the feed of the intake dies at ${point}`, async (t) => {
    await world.route(10_000)
    const { died } = await doom('intake-feed', point)
    const externalId = randomUUID()
    const { id } = await untilAccepted(externalId)
    await died
    await again('intake-feed')
    await expectOnce(t, externalId, id)
    await waitUntil('the price has come', async () => {
      const { text } = await call(`${world.intakeApi}/orders/${id}`, {
        headers: { 'x-api-key': partnerKeys.Acme },
      })
      return /"price":"\d/u.test(text)
    })
  })
}

test.serial(
  'broker, ledger and MES may be away: orders are taken, and delivered later, once',
  async (t) => {
    await world.route(10_000)
    await world.estate.process('mes').terminate()
    await world.estate.process('courier').terminate()
    await world.estate.process('intake-relay').terminate()
    const taken = await Promise.all(
      Array.from({ length: 5 }, async () => {
        const externalId = randomUUID()
        return { externalId, ...(await untilAccepted(externalId)) }
      }),
    )
    for (const name of ['mes', 'courier', 'intake-relay'] as const) await again(name)
    for (const { externalId, id } of taken) await expectOnce(t, externalId, id)
  },
)

test.serial(
  'with the intake’s database away, or no connection free, orders are refused and not half taken',
  async (t) => {
    await world.route(10_000)
    const owner = pool(world.estate.databases.mes)
    const externalId = randomUUID()
    await owner.query('ALTER DATABASE intake ALLOW_CONNECTIONS false')
    await owner.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'intake' AND application_name = 'strangler-intake'`,
    )
    const away = await submit(world.intakeApi, partnerKeys.Acme, order(externalId))
    t.is(away.status, 503)
    t.is(away.headers.get('retry-after'), '1')
    await owner.query('ALTER DATABASE intake ALLOW_CONNECTIONS true')
    const { id, tally } = await untilAccepted(externalId)
    t.is(tally.replayed, 1, 'nothing had been taken')
    await owner.end()
    await expectOnce(t, externalId, id)
  },
)

test.serial(
  'PostgreSQL restarts at once in the middle of it: who has an answer has an order',
  async (t) => {
    await world.route(10_000)
    const ids = Array.from({ length: 30 }, () => randomUUID())
    const sending = Promise.all(ids.map((id) => untilAccepted(id)))
    await world.estate.postgres.restart('kill9')
    const taken = await sending
    for (const [n, { id }] of taken.entries()) await expectOnce(t, ids[n]!, id)
  },
)

test.serial('a store that can not be written refuses the order before it is one', async (t) => {
  await world.route(10_000)
  const { modelDirectory } = world.estate
  const away = join(modelDirectory, 'incoming-away')
  await rename(join(modelDirectory, 'incoming'), away)
  const externalId = randomUUID()
  const refused = await submit(world.intakeApi, partnerKeys.Acme, order(externalId))
  t.is(refused.status, 503)
  t.regex(refused.headers.get('retry-after') ?? '', /^\d+$/u)
  await rename(away, join(modelDirectory, 'incoming'))
  const { id } = await untilAccepted(externalId)
  await expectOnce(t, externalId, id)
})
