import { randomUUID } from 'node:crypto'

import type { ExecutionContext } from 'ava'

import { insertBridge } from '../adapters/bridge/insert-bridge.ts'
import { openBroker } from '../adapters/broker/open-broker.ts'
import type { Broker, Sender } from '../adapters/broker/port.ts'
import { wholeShare } from '../contracts/path-share.ts'
import type { NodeProcess } from '../estate/child-process.ts'
import { type Estate, type EstateOptions, type ProcessName, startEstate } from '../estate/estate.ts'
import { withClient } from '../estate/postgres-server.ts'
import { advancePhase, lowerPhase, type Moved } from '../flags/phase-journal.ts'
import type { PhaseId } from '../flags/phases.ts'
import { createLog } from '../runtime/log.ts'
import { createPool, type Pool } from '../runtime/postgres.ts'
import { waitUntil } from './wait-until.ts'

/** The way back with everything that a test needs to play the MES, CRM and the operator. */
export interface StatusesWay {
  readonly estate: Estate
  readonly broker: Broker
  /** As superuser. */
  readonly ledger: Pool
  readonly shop: Pool
  /** CRM's own login. */
  readonly crm: Pool
  /** What the MES publishes through. */
  readonly mes: Sender
  move(phase: PhaseId, share: number): Promise<Moved>
  stop(): Promise<void>
}

const log = createLog('test')
// Small periods, so that a death is certified and a frozen applier let go of within a test.
const periods = { KILL_PERIOD_MS: '1000', SETTLE_MS: '1000' }
const settings: EstateOptions['settings'] = {
  courier: { ...periods, QUIET_MS: '1000', PROBE_MS: '300' },
  watch: periods,
  applier: { QUIET_MS: '300', HOLD_SHOP_MS: '700', HOLD_LEDGER_MS: '1000' },
}

/** Statuses at 100 % direct, the bridges in; `without` names what the test does not need. */
export async function startStatusesWay(
  options: EstateOptions & { readonly without: readonly ProcessName[] },
): Promise<StatusesWay> {
  const estate = await startEstate({ ...options, settings: { ...settings, ...options.settings } })
  const undo: (() => Promise<void>)[] = [() => estate.stop()]
  const stop = async (): Promise<void> => {
    for (const each of undo.splice(0).toReversed()) await each().catch(() => undefined)
  }
  try {
    const pool = (url: string, max = 4): Pool => {
      const made = createPool(url, { name: 'test', log, max })
      undo.push(() => made.end())
      return made
    }
    const ledger = pool(estate.databases.ledger)
    const shop = pool(estate.databases.shop)
    const shopName = new URL(estate.databases.shop).pathname.slice(1)
    const crm = pool(estate.postgres.urlFor(shopName, 'crm'))
    const broker = openBroker(estate.operatorEnvironment['BROKER_URL']!, { log })
    undo.push(() => broker.close())
    const mes = await broker.openSender('mes-under-test')
    undo.push(() => mes.close())
    for (const queue of ['mes.orders', 'crm.events'])
      await insertBridge({ broker, ledger, queue, who: 'test' })
    const move: StatusesWay['move'] = (phase, share) => {
      const act = {
        phase,
        ledger,
        seam: phase === 'orders-direct' ? shop : ledger,
        who: 'test',
        why: 'test',
      }
      return share === 0 ? lowerPhase({ ...act, share }) : advancePhase({ ...act, share })
    }
    await move('orders-direct', wholeShare)
    await move('statuses-direct', wholeShare)
    return { estate, broker, ledger, shop, crm, mes, move, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** Orders that were submitted and that the MES has, without anybody having carried them. */
export async function submittedOrders(way: StatusesWay, count: number): Promise<string[]> {
  const ids = Array.from({ length: count }, () => randomUUID())
  await way.shop.query(
    `INSERT INTO public.orders (id, status, material, quantity, model_key, model_sha256, model_bytes)
     SELECT id, 'SUBMITTED', 'PLA', 1, 'models/' || id, repeat('a', 64), 10 FROM unnest($1::uuid[]) AS o(id)`,
    [ids],
  )
  await inLedger(way, ids)
  return ids
}

export async function submittedOrder(way: StatusesWay): Promise<string> {
  const [id] = await submittedOrders(way, 1)
  return id!
}

export async function inLedger(way: StatusesWay, ids: readonly string[]): Promise<void> {
  await way.ledger.query(
    `INSERT INTO order_ledger (order_id, origin, source_ref, path, path_epoch, path_reason, state, routing_key, body, body_sha256,
                               submitted_at, delivered_at)
     SELECT id, 'shop', id, 'direct', 1, '{"rule": "test"}', 'delivered', 'order.submitted', '{}', sha256('{}'),
            clock_timestamp(), clock_timestamp()
     FROM unnest($1::text[]) AS o(id) ON CONFLICT DO NOTHING`,
    [ids],
  )
}

export interface Told {
  readonly status?: string
  /** As it is to stand in the JSON. */
  readonly price?: string
  /** undefined here = the message has none; not given = now, and never the same twice. */
  readonly occurredAt?: string | undefined
}

let told = 0

export function messageOf(orderId: string, event: Told): Buffer {
  const { status = 'PRICE_CALCULATED', price } = event
  told += 1
  const occurredAt =
    'occurredAt' in event ? event.occurredAt : new Date(Date.UTC(2026, 0, 1) + told).toISOString()
  const head = JSON.stringify({ orderId, source: 'shop', status, occurredAt }).slice(0, -1)
  return Buffer.from(`${head}${price === undefined ? '' : `,"price":${price},"currency":"EUR"`}}`)
}

/** The MES says something of an order: a price where there is one, else a status. */
export function tell(way: StatusesWay, orderId: string, event: Told): Promise<void> {
  const routingKey = event.price === undefined ? 'order.status_changed' : 'order.price_calculated'
  return send(way, routingKey, messageOf(orderId, event))
}

export function send({ mes }: StatusesWay, routingKey: string, body: Buffer): Promise<void> {
  return mes.publish({
    exchange: 'mes.events',
    routingKey,
    body,
    properties: { contentType: 'application/json', headers: { 'x-sender': 'mes' } },
  })
}

/** The seller presses the button; false where CRM refuses. */
export async function sellerMoves(
  { crm }: StatusesWay,
  orderIds: readonly string[],
  step: 'approve' | 'close',
): Promise<number> {
  const [from, to] =
    step === 'approve' ? ['PRICE_CALCULATED', 'MANUFACTURING_APPROVED'] : ['SHIPPED', 'CLOSED']
  const { rowCount } = await crm.query(
    'UPDATE orders SET status = $3, updated_at = now() WHERE id = ANY($1::uuid[]) AND status = $2',
    [orderIds, from, to],
  )
  return rowCount ?? 0
}

/** `STATUS price`, as it stands in the Shop DB. */
export async function inShop({ shop }: StatusesWay, orderId: string): Promise<string> {
  const { rows } = await shop.query<{ row: string }>(
    `SELECT concat_ws(' ', status, price::text, currency) AS row FROM public.orders WHERE id = $1`,
    [orderId],
  )
  return rows[0]?.row ?? 'no row'
}

export async function arrivesInShop(
  way: StatusesWay,
  orderId: string,
  wanted: string,
): Promise<void> {
  await waitUntil(`${orderId} to be ${wanted}`, async () => {
    const row = await inShop(way, orderId)
    return row === wanted ? true : Promise.reject(new Error(row))
  })
}

/** `state: reason` of each event of the order, by arrival. */
export async function inInbox({ ledger }: StatusesWay, orderId: string): Promise<string[]> {
  const { rows } = await ledger.query<{ verdict: string }>(
    `SELECT concat_ws(': ', state, reason) AS verdict FROM status_inbox WHERE order_id = $1 ORDER BY id`,
    [orderId],
  )
  return rows.map((row) => row.verdict)
}

/** Waits until so many events of the order are there and none of them is open or waits. */
export async function settledInInbox(
  way: StatusesWay,
  orderId: string,
  count: number,
): Promise<string[]> {
  return waitUntil(`${count} settled events of ${orderId}`, async () => {
    const verdicts = await inInbox(way, orderId)
    return verdicts.length === count && !verdicts.some((each) => /^(open|waiting)/.test(each))
      ? verdicts
      : Promise.reject(new Error(verdicts.join(', ')))
  })
}

/** Resolves when this life of the process says so; rejects when it ends without. Call it before what makes it happen. */
export function hears(of: NodeProcess, line: RegExp): Promise<void> {
  const heard = new Promise<void>((resolve) => {
    const stop = of.onLine((each) => {
      if (!line.test(each)) return
      stop()
      resolve()
    })
  })
  return heard
}

/** What the Shop DB has of each order against what the MES has; the rows of the MES that nobody told the Shop of. */
export async function differences(
  { estate }: StatusesWay,
  ids: readonly string[],
): Promise<string[]> {
  const sql = `concat_ws(' ', status, price::text, currency) AS row FROM public.orders`
  const [inMes, inShopDb] = await Promise.all([
    withClient(estate.databases.mes, (client) =>
      client.query<{ id: string; row: string }>(
        `SELECT order_id::text AS id, ${sql} WHERE order_id = ANY($1::uuid[])`,
        [ids],
      ),
    ),
    withClient(estate.databases.shop, (client) =>
      client.query<{ id: string; row: string }>(
        `SELECT id::text, ${sql} WHERE id = ANY($1::uuid[])`,
        [ids],
      ),
    ),
  ])
  const shopRows = new Map(inShopDb.rows.map(({ id, row }) => [id, row]))
  const mesRows = Map.groupBy(inMes.rows, ({ id }) => id)
  return ids.flatMap((id) => {
    const rows = mesRows.get(id) ?? []
    const there = shopRows.get(id)
    return rows.length === 1 && rows[0]!.row === there
      ? []
      : [`${id}: MES ${rows.map(({ row }) => row).join(' and ') || 'nothing'}, Shop ${there}`]
  })
}

/** CRM carries and writes nothing of what is direct, and nothing is left open. */
export async function expectNothingThroughCrm(
  t: ExecutionContext,
  { ledger, shop }: StatusesWay,
): Promise<void> {
  const { rows: forwarded } = await ledger.query(
    `SELECT b.order_id, b.state FROM bridge_inbox b JOIN order_ledger l USING (order_id)
     WHERE l.status_path = 'direct' AND b.queue = 'crm.events' AND b.routing_key <> 'order.created' AND b.state <> 'diverted'`,
  )
  t.deepEqual(forwarded, [], 'CRM got no status of a direct order')
  const { rows: direct } = await ledger.query<{ id: string }>(
    `SELECT order_id AS id FROM order_ledger WHERE status_path = 'direct'`,
  )
  const { rows: writes } = await shop.query(
    `SELECT order_id, 'crm_writes' AS in FROM strangler.crm_writes WHERE order_id::text = ANY($1)
     UNION ALL SELECT order_id, 'late_writes' FROM strangler.late_writes WHERE order_id::text = ANY($1)`,
    [direct.map(({ id }) => id)],
  )
  t.deepEqual(writes, [], 'CRM wrote no status of a direct order')
  const { rows: open } = await ledger.query(
    `SELECT order_id, status, state, reason FROM status_inbox WHERE state IN ('open', 'waiting', 'parked')`,
  )
  t.deepEqual(open, [], 'nothing is left')
}
