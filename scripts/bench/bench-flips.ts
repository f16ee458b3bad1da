import { randomInt } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'

import type pg from 'pg'

import { orderHeader, ordersToMes } from '../../adapters/wire/legacy-topology.ts'
import { type Rate, rateOf } from '../../delivery/bench/rate.ts'
import { type Estate, startEstate } from '../../estate/estate.ts'
import { violations } from '../../estate/invariants.ts'
import { withClient } from '../../estate/postgres-server.ts'
import { advancePhase, lowerPhase } from '../../flags/phase-journal.ts'
import { readReplicas } from '../../flags/replicas.ts'
import { createLog } from '../../runtime/log.ts'
import { createPool, type Pool } from '../../runtime/postgres.ts'

const log = createLog('bench')
const clients = 16
// A little above what must be reached, so that a hiccup can be made up for.
const wantedOrdersPerSecond = 510
const wantedFlipsPerMinute = 1050

export interface FlipsResult {
  /** Submits, each from when it was due to its commit. */
  readonly orders: Rate
  readonly flips: number
  readonly flipsPerMinute: number
  /** Of the flips: acknowledged by every replica before the next one. The others were in force, and the schedule was behind. */
  readonly complete: number
  readonly completePerMinute: number
  /** `bridge`, `relay`, ...: who had to acknowledge. */
  readonly replicas: readonly string[]
  readonly direct: number
  readonly legacy: number
  /** From the last submit until the last direct order stood in the MES queue. */
  readonly drainedMs: number
  /** What is wrong with the orders, in words; empty = each on one path by claim, outbox and ledger, and none lost or doubled. */
  readonly wrong: readonly string[]
  readonly topologyChanges: number
}

/** The share of new orders flips as fast as a storm while orders come in; trigger, relay, courier and bridge as they run. */
export async function benchFlips(seconds: number): Promise<FlipsResult> {
  const estate = await startEstate({
    without: ['shop', 'crm', 'mes', 'proxy', 'watch', 'applier', 'shadow'],
  })
  const shop = createPool(estate.databases.shop, { name: 'bench', log })
  const ledger = createPool(estate.databases.ledger, { name: 'bench', log })
  const act = { ledger, seam: shop, phase: 'orders-direct', who: 'bench', why: 'bench' } as const
  try {
    const inserted = await estate.strangler('bridge', 'insert', '--who', 'bench')
    if (inserted.code !== 0) throw new Error(inserted.stderr)
    // Every process has delivered once, and its code is warm.
    await advancePhase({ ...act, share: 10_000 })
    await submitPaced(estate, 500, wantedOrdersPerSecond)
    await untilDelivered(ledger, shop)
    await lowerPhase({ ...act, share: 0 })
    const before = await topology(estate)

    let over = false
    const began = performance.now()
    const flipping = storm(act, began, () => over)
    const orders = await submitPaced(
      estate,
      wantedOrdersPerSecond * seconds,
      wantedOrdersPerSecond,
    ).finally(() => {
      over = true
    })
    const { flips, complete, tookMs } = await flipping
    const replicas = (await readReplicas(ledger)).filter(({ lapsed }) => !lapsed)
    const submitted = performance.now()
    await untilDelivered(ledger, shop)
    const drainedMs = Math.round(performance.now() - submitted)
    const after = await topology(estate)
    return {
      orders,
      flips,
      flipsPerMinute: perMinute(flips, tookMs),
      complete,
      completePerMinute: perMinute(complete, tookMs),
      replicas: replicas.map(({ kind }) => kind),
      drainedMs,
      ...(await judge(estate)),
      topologyChanges: before.filter((line, at) => line !== after[at]).length,
    }
  } finally {
    await Promise.all([shop.end(), ledger.end()])
    await estate.stop()
  }
}

type Act = Parameters<typeof lowerPhase>[0]

/** One flip after the other on a schedule. While it keeps up each is waited for until it is complete. */
async function storm(
  act: Omit<Act, 'share'>,
  began: number,
  isOver: () => boolean,
): Promise<{ flips: number; complete: number; tookMs: number }> {
  const everyMs = 60_000 / wantedFlipsPerMinute
  let flips = 0
  let complete = 0
  while (!isOver()) {
    const aheadMs = began + flips * everyMs - performance.now()
    if (aheadMs > 0) await delay(aheadMs)
    const wait = aheadMs < -everyMs ? { completeWithinMs: 0 } : {}
    const moved =
      flips % 2 === 0
        ? await advancePhase({ ...act, ...wait, share: randomInt(1, 10_001) })
        : await lowerPhase({ ...act, ...wait, share: 0 })
    if (!moved.changed) throw new Error(`flip ${flips} changed nothing`)
    flips += 1
    if (moved.complete) complete += 1
  }
  return { flips, complete, tookMs: performance.now() - began }
}

/** Each order is submitted when it is due, also when the one before it is late; by the Shop's role, as the Shop does. */
async function submitPaced(estate: Estate, count: number, perSecond: number): Promise<Rate> {
  const ids = await withClient(estate.databases.shop, async (client) => {
    const { rows } = await client.query<{ id: string }>(
      `INSERT INTO orders (id, status, material, quantity, model_key, model_sha256, model_bytes)
       SELECT gen_random_uuid(), 'FILE_UPLOADED', 'PLA', 1, 'models/ab/' || repeat('a', 64), repeat('a', 64), 571184
       FROM generate_series(1, $1::int) RETURNING id`,
      [count],
    )
    return rows.map(({ id }) => id)
  })
  const url = estate.postgres.urlFor(new URL(estate.databases.shop).pathname.slice(1), 'shop')
  const latencies: number[] = []
  let next = 0
  const began = performance.now()
  const submitInTurn = async (client: pg.Client): Promise<void> => {
    while (next < ids.length) {
      const due = began + (next / perSecond) * 1000
      const id = ids[next]!
      next += 1
      const aheadMs = due - performance.now()
      if (aheadMs > 0) await delay(aheadMs)
      await client.query({
        name: 'submit',
        text: `UPDATE orders SET status = 'SUBMITTED', updated_at = now() WHERE id = $1 AND status = 'FILE_UPLOADED'`,
        values: [id],
      })
      latencies.push(performance.now() - due)
    }
  }
  await Promise.all(Array.from({ length: clients }, () => withClient(url, submitInTurn)))
  return rateOf(count, performance.now() - began, latencies)
}

async function untilDelivered(ledger: Pool, shop: Pool): Promise<void> {
  for (;;) {
    const [inOutbox, inLedger] = await Promise.all([
      shop.query('SELECT FROM strangler.outbox WHERE relayed_at IS NULL LIMIT 1'),
      ledger.query(
        `SELECT FROM order_ledger WHERE path = 'direct' AND state NOT IN ('delivered', 'dead', 'cancelled') LIMIT 1`,
      ),
    ])
    if (inOutbox.rowCount === 0 && inLedger.rowCount === 0) return
    await delay(100)
  }
}

/** Every binding of the broker, and how often a bridge has changed one; a line each. */
async function topology(estate: Estate): Promise<string[]> {
  const { broker, ledger } = estate.databases
  return [
    ...(await rowsOf(broker, 'SELECT * FROM amq.binding ORDER BY 1, 2, 3')),
    ...(await rowsOf(ledger, 'SELECT queue, state, topology_changes FROM bridge ORDER BY 1')),
  ].map((row) => JSON.stringify(row))
}

/** Claim, outbox, ledger and MES queue against each other, order by order. */
async function judge(
  estate: Estate,
): Promise<{ direct: number; legacy: number; wrong: readonly string[] }> {
  const orders = await rowsOf(
    estate.databases.shop,
    `SELECT o.id::text, o.status, o.crm_sent_at IS NOT NULL AS claimed, b.path FROM public.orders o LEFT JOIN strangler.outbox b ON b.order_id = o.id`,
  )
  const ledger = new Map(
    (
      await rowsOf(
        estate.databases.ledger,
        'SELECT order_id AS id, path, state FROM order_ledger WHERE NOT EXISTS (SELECT FROM handover h WHERE h.order_id = order_ledger.order_id)',
      )
    ).map((row) => [row['id'], row]),
  )
  const queued = new Map(
    (
      await rowsOf(
        estate.databases.broker,
        `SELECT properties -> 'headers' ->> '${orderHeader}' AS id, count(*)::int AS messages FROM amq.message WHERE queue = '${ordersToMes.queue}' GROUP BY 1`,
      )
    ).map((row) => [row['id'], Number(row['messages'])]),
  )
  const wrong = (await violations(estate, 'any time'))
    // These orders were made by SQL, and never had a model.
    .filter(({ invariant }) => invariant !== "every order's model is in the store")
    .map(({ invariant, orderIds }) => `not so: ${invariant}: ${orderIds.length} orders`)
  for (const { id, status, claimed, path } of orders) {
    const row = ledger.get(id)
    const isDirect = path === 'direct'
    const messages = queued.get(id) ?? 0
    const says = `${String(id)} ${String(status)}: claimed ${String(claimed)}, outbox ${String(path)}, ledger ${String(row?.['path'])} ${String(row?.['state'])}, ${messages} in the MES queue`
    const asDecided = claimed === isDirect && row?.['path'] === path
    if (status !== 'SUBMITTED' || !asDecided || messages !== (isDirect ? 1 : 0)) wrong.push(says)
  }
  const direct = orders.filter(({ path }) => path === 'direct').length
  return { direct, legacy: orders.length - direct, wrong }
}

function perMinute(count: number, tookMs: number): number {
  return Math.round((count / tookMs) * 60_000)
}

function rowsOf(url: string, sql: string): Promise<Record<string, unknown>[]> {
  return withClient(url, async (client) => (await client.query<Record<string, unknown>>(sql)).rows)
}
