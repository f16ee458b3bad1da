import { randomUUID } from 'node:crypto'

import test from 'ava'

import { startEstateDatabases } from '../test/estate-databases.ts'
import { bottleneck } from './bottleneck.ts'

const estate = await startEstateDatabases()
const { ledger } = estate
test.after.always(() => estate.stop())
test.beforeEach(async () => {
  await ledger.query('TRUNCATE order_ledger, bridge_inbox, status_inbox')
})

interface Story {
  readonly path: 'legacy' | 'direct'
  /** Milliseconds since the window began. */
  readonly submitted: number
  readonly taken: number
  readonly begun?: number
  readonly delivered: number
  readonly priced?: number
}

async function tell(stories: readonly Story[]): Promise<void> {
  const base = Date.now() - 590_000
  const at = (ms: number): Date => new Date(base + ms)
  for (const story of stories) {
    const id = randomUUID()
    const { path } = story
    await ledger.query(
      `INSERT INTO order_ledger (order_id, origin, source_ref, path, path_epoch, path_reason, state, routing_key, body, body_sha256,
         submitted_at, accepted_at, sending_at, delivered_at)
       VALUES ($1, 'shop', $1, $2, 1, '{}', 'delivered', 'order.submitted', '', '', $3, $4, $5, $6)`,
      [
        id,
        path,
        at(story.submitted),
        at(path === 'direct' ? story.taken : story.submitted + 5),
        story.begun === undefined ? null : at(story.begun),
        at(story.delivered),
      ],
    )
    if (path === 'legacy')
      await mail(id, 'mes.orders', 'order.submitted', at(story.taken), at(story.delivered))
    if (story.priced !== undefined) {
      await mail(id, 'crm.events', 'order.price_calculated', at(story.priced), at(story.priced + 2))
    }
  }
}

async function mail(
  id: string,
  queue: string,
  key: string,
  received: Date,
  settled: Date,
): Promise<void> {
  await ledger.query(
    `INSERT INTO bridge_inbox (queue, msg_key, order_id, routing_key, exchange, state, body, properties, redelivered, received_at, settled_at)
     VALUES ($1, sha256($2::bytea), $3, $4, '', 'forwarded', '', '{}', false, $5, $6)`,
    [queue, `${id}${key}`, id, key, received, settled],
  )
}

test.serial('before anything moved: a CRM that lets orders lie is named', async (t) => {
  await tell(
    Array.from({ length: 30 }, (_, n) => ({
      path: 'legacy' as const,
      submitted: n * 1000,
      taken: n * 1000 + 4000 + (n % 3) * 100,
      delivered: n * 1000 + 4010 + (n % 3) * 100,
      priced: n * 1000 + 4300 + (n % 3) * 100,
    })),
  )
  const found = await bottleneck(ledger, 600_000)
  t.like(found.worst, { hop: 'CRM', path: 'legacy', arrivals: 30, inFlight: 0 })
  t.true(found.worst!.shareOfTime > 0.9)
})

test.serial('a MES that takes 300 ms for each and keeps up: processing', async (t) => {
  await tell(
    Array.from({ length: 30 }, (_, n) => ({
      path: 'direct' as const,
      submitted: n * 1000,
      taken: n * 1000 + 10,
      begun: n * 1000 + 12,
      delivered: n * 1000 + 20,
      priced: n * 1000 + 320 + (n % 4),
    })),
  )
  const { worst } = await bottleneck(ledger, 600_000)
  t.like(worst, { hop: 'MES', path: 'direct', kind: 'processing' })
  t.true(worst!.serviceP50 > 295 && worst!.serviceP50 < 310)
  t.true(worst!.waitP95 < 1)
})

test.serial(
  'a MES that works on ten at once, 3 s each: processing, although many are there',
  async (t) => {
    await tell(
      Array.from({ length: 60 }, (_, n) => ({
        path: 'direct' as const,
        submitted: n * 300,
        taken: n * 300 + 10,
        begun: n * 300 + 12,
        delivered: n * 300 + 20,
        priced: n * 300 + 3020 + ((n * 7) % 5),
      })),
    )
    t.like((await bottleneck(ledger, 600_000)).worst, { hop: 'MES', kind: 'processing' })
  },
)

test.serial('a MES with 300 ms for each and ten orders a second: queueing', async (t) => {
  await tell(
    Array.from({ length: 60 }, (_, n) => ({
      path: 'direct' as const,
      submitted: n * 100,
      taken: n * 100 + 10,
      begun: n * 100 + 12,
      delivered: n * 100 + 20,
      priced: 20 + (n + 1) * 300,
    })),
  )
  const { worst } = await bottleneck(ledger, 600_000)
  t.like(worst, { hop: 'MES', kind: 'queueing' })
  t.true(worst!.serviceP50 < 500)
  // Little's law, counted and computed, over visits that lie in the window as a whole.
  t.true(Math.abs(worst!.inSystem - worst!.lambdaW) < 0.01)
})

test.serial('one slow courier: the queue, queueing', async (t) => {
  await tell(
    Array.from({ length: 40 }, (_, n) => ({
      path: 'direct' as const,
      submitted: n * 10,
      taken: n * 10 + 10,
      begun: 50 + n * 200,
      delivered: 50 + (n + 1) * 200,
      priced: 50 + (n + 1) * 200 + 30,
    })),
  )
  t.like((await bottleneck(ledger, 600_000)).worst, { hop: 'queue', kind: 'queueing' })
})

test.serial('orders that went in and never came out count with their age', async (t) => {
  await tell(
    Array.from({ length: 10 }, (_, n) => ({
      path: 'direct' as const,
      submitted: n * 1000,
      taken: n * 1000 + 10,
      begun: n * 1000 + 12,
      delivered: n * 1000 + 20,
    })),
  )
  const { worst } = await bottleneck(ledger, 600_000)
  t.like(worst, { hop: 'MES', inFlight: 10 })
  t.true(worst!.serviceP50 > 500_000)
})

/** Prices that went into the status inbox; of each, when it came, was taken in hand, and was applied. */
async function divert(
  events: readonly { came: number; tried?: number; applied?: number; parked?: boolean }[],
): Promise<void> {
  const base = Date.now() - 590_000
  const at = (ms: number | undefined): Date | null =>
    ms === undefined ? null : new Date(base + ms)
  for (const { came, tried, applied, parked } of events) {
    const id = randomUUID()
    await ledger.query(
      `INSERT INTO order_ledger (order_id, origin, source_ref, path, path_epoch, path_reason, state, routing_key, body, body_sha256,
         submitted_at, accepted_at, delivered_at, status_path)
       VALUES ($1, 'shop', $1, 'legacy', 1, '{}', 'delivered', 'order.submitted', '', '', $2, $2, $2, 'direct')`,
      [id, at(came - 50)],
    )
    await mail(id, 'crm.events', 'order.price_calculated', at(came - 2)!, at(came)!)
    await ledger.query(
      `WITH b AS (UPDATE bridge_inbox SET state = 'diverted' WHERE order_id = $1 RETURNING id)
       INSERT INTO status_inbox (id, order_id, status, received_at, tried_at, settled_at, state)
       SELECT b.id, $1, 'PRICE_CALCULATED', $2, $3, $4, $5 FROM b`,
      [
        id,
        at(came),
        at(tried),
        at(applied),
        parked ? 'parked' : applied === undefined ? 'open' : 'applied',
      ],
    )
  }
}

test.serial(
  'an applier that is behind: the status inbox, queueing, on the path of the statuses',
  async (t) => {
    await divert(
      Array.from({ length: 30 }, (_, n) => ({
        came: n * 10,
        tried: 100 + n * 500,
        applied: 100 + n * 500 + 20,
      })),
    )
    const { worst, hops } = await bottleneck(ledger, 600_000)
    t.like(worst, {
      hop: 'status inbox',
      path: 'direct',
      kind: 'queueing',
      arrivals: 30,
      inFlight: 0,
    })
    t.true(worst!.serviceP95 < 25)
    t.true(worst!.waitP50 > 5000)
    // The seller has the price when it is in the Shop, not when the bridge had it.
    t.like(
      hops.find(({ hop }) => hop === 'seller'),
      { arrivals: 30 },
    )
  },
)

test.serial('a Shop DB that takes long over each: the status inbox, processing', async (t) => {
  await divert(
    Array.from({ length: 20 }, (_, n) => ({
      came: n * 1000,
      tried: n * 1000 + 5,
      applied: n * 1000 + 700,
    })),
  )
  t.like((await bottleneck(ledger, 600_000)).worst, { hop: 'status inbox', kind: 'processing' })
})

test.serial('no applier: what never came out counts, and no seller is waited for', async (t) => {
  await divert(Array.from({ length: 10 }, (_, n) => ({ came: n * 10 })))
  const { worst, hops } = await bottleneck(ledger, 600_000)
  t.like(worst, { hop: 'status inbox', kind: 'queueing', inFlight: 10 })
  t.true(worst!.waitP50 > 500_000)
  t.false(hops.some(({ hop }) => hop === 'seller'))
})

test.serial('what a person has to look at is shown, and is not the bottleneck', async (t) => {
  await divert([
    { came: 0, tried: 10, parked: true },
    { came: 1000, tried: 1010, applied: 1020 },
  ])
  const { worst, hops } = await bottleneck(ledger, 600_000)
  t.like(
    hops.find(({ hop }) => hop === 'parked status'),
    { human: true, inFlight: 1 },
  )
  t.not(worst!.hop, 'parked status')
  t.like(
    hops.find(({ hop }) => hop === 'status inbox'),
    { arrivals: 1, inFlight: 0 },
  )
})

test.serial('an empty window names nothing', async (t) => {
  t.deepEqual(await bottleneck(ledger, 1000), { windowMs: 1000, hops: [], worst: undefined })
})
