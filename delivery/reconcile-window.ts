import type { Pool } from '../runtime/postgres.ts'
import { compareOrder, waitsInMesQueue } from './compare-order.ts'
import type { Difference } from './difference.ts'
import type { MesIntake, MesSide, OrderSides, ShopSide } from './order-sides.ts'
import { readSides } from './read-sides.ts'

/**
 * The settled orders of a window in one bucket: the last three characters of their ids. A sum is over PostgreSQL's hash of each
 * id, or of each id with its price; two databases that hash differently only make every bucket differ, and so be read.
 */
export interface Tally {
  readonly bucket: string
  readonly orders: number
  /** Undefined where the side has none. */
  readonly ids: string | undefined
  readonly prices: string | undefined
}

/** An order of a bucket that differs; with its price where the side has one. */
export interface Tallied {
  readonly orderId: string
  readonly price?: string | null
}

export interface Excluding {
  readonly windowMs: number
  /** They are judged one by one. */
  readonly except: readonly string[]
}

/** The legacy sides, window by window. A side that can't be read throws. */
export interface WindowedSides {
  shopOrders(ids: readonly string[]): Promise<readonly ShopSide[]>
  mesOrders(ids: readonly string[]): Promise<ReadonlyMap<string, MesSide>>
  /** Submitted or born in the MES, and not closed, of whatever age. */
  shopOpen(): Promise<readonly string[]>
  /** The same in the MES, without what came in within the watermark. */
  mesOpen(youngerMs: number): Promise<readonly string[]>
  /** Closed orders of the window. */
  shopTally(of: Excluding): Promise<readonly Tally[]>
  mesTally(of: Excluding): Promise<readonly Tally[]>
  shopClosed(of: Excluding, buckets: readonly string[]): Promise<readonly Tallied[]>
  mesClosed(of: Excluding, buckets: readonly string[]): Promise<readonly Tallied[]>
  mesIntake(): Promise<MesIntake>
}

export interface WindowOptions {
  readonly ledger: Pool
  readonly legacy: WindowedSides
  readonly windowMs: number
  /** Whatever changed within it is under way. */
  readonly watermarkMs: number
}

export interface Conserved {
  /** Every order that any side knows, of the window or not terminal. */
  readonly accepted: number
  /** Closed, and all sides agree. */
  readonly terminal: number
  readonly inFlight: number
  /** Of the others, in the order of their ids. */
  readonly differences: readonly Difference[]
  /** Of those in flight: sent to the MES, which has not come to them yet. */
  readonly inMesQueue: { readonly orders: number; readonly oldestMs: number } | undefined
  readonly intake: MesIntake
}

const pageSize = 5000

/**
 * The same judgement as `reconcile`, over what the books of the last hours rest on: every order of the window, and every order
 * that is not terminal whatever its age. What is closed is compared by sums per bucket, so that a hundred thousand orders take
 * three aggregates; only the buckets that differ, and what is open, are read order by order.
 */
export async function reconcileWindow(options: WindowOptions): Promise<Conserved> {
  const { ledger, legacy, watermarkMs, windowMs } = options
  const taken = await legacy.mesIntake()
  const intake = { ...taken, sentLastMs: await sentLast(ledger, taken.tookLastIds) }
  // One after the other as everywhere, Shop first: what comes in meanwhile is not missed behind it.
  const shopOpen = await legacy.shopOpen()
  const ledgerOpen = await openInLedger(ledger)
  const mesOpen = await legacy.mesOpen(watermarkMs)
  const open = [...new Set([...shopOpen, ...ledgerOpen, ...mesOpen])]
  const settled = await compareSettled(options, { windowMs, except: open })

  const judged = [...open, ...settled.suspects]
  const counts = { terminal: settled.agreed, inFlight: 0, unexplained: 0 }
  const differences: Difference[] = []
  let inMesQueue: { orders: number; oldestMs: number } | undefined
  for (let at = 0; at < judged.length; at += pageSize) {
    const page = judged.slice(at, at + pageSize)
    for (const sides of await readSides({ ledger, legacy }, page, await legacy.shopOrders(page))) {
      if (isNowhere(sides)) continue
      if (waitsInMesQueue(sides, intake, watermarkMs)) {
        counts.inFlight += 1
        const age = sides.ledger?.quietForMs ?? 0
        inMesQueue = {
          orders: (inMesQueue?.orders ?? 0) + 1,
          oldestMs: Math.max(age, inMesQueue?.oldestMs ?? 0),
        }
        continue
      }
      const found = compareOrder(sides, watermarkMs)
      differences.push(...found)
      if (found.some(({ waits }) => !waits)) counts.unexplained += 1
      else if (found.length === 0 && isTerminal(sides)) counts.terminal += 1
      else counts.inFlight += 1
    }
  }
  const { terminal, inFlight, unexplained } = counts
  return {
    accepted: terminal + inFlight + unexplained,
    terminal,
    inFlight,
    differences: differences.toSorted((a, b) => (a.orderId < b.orderId ? -1 : 1)),
    inMesQueue,
    intake,
  }
}

/** Of the first of these that came out of the MES's queue: a partner's order did not. */
async function sentLast(ledger: Pool, orderIds: readonly string[]): Promise<number> {
  const { rows } = await ledger.query<{ age: number }>(
    `SELECT (extract(epoch FROM clock_timestamp() - l.delivered_at) * 1000)::float8 AS age
     FROM unnest($1::text[]) WITH ORDINALITY AS o(id, n) JOIN order_ledger l ON l.order_id = o.id
     WHERE l.origin = 'shop' AND l.delivered_at IS NOT NULL ORDER BY o.n LIMIT 1`,
    [orderIds],
  )
  return rows[0]?.age ?? Infinity
}

/** It was in a list, and is in no database any more: rolled back, or taken away on every side. */
function isNowhere({ shop, ledger, mes }: OrderSides): boolean {
  return shop === undefined && ledger === undefined && mes === undefined
}

function isTerminal({ shop, ledger }: OrderSides): boolean {
  return shop?.status === 'CLOSED' || ledger?.state === 'cancelled'
}

interface Settled {
  /** Closed in the Shop, and the same on every side. */
  readonly agreed: number
  /** On one side and not on another, or with another price; often only at the window's edge. */
  readonly suspects: readonly string[]
}

async function compareSettled({ ledger, legacy }: WindowOptions, of: Excluding): Promise<Settled> {
  const [shop, ours, mes] = await Promise.all([
    legacy.shopTally(of),
    ledgerTally(ledger, of),
    legacy.mesTally(of),
  ])
  const buckets = differing(shop, ours, mes)
  const closed = shop.reduce((sum, { orders }) => sum + orders, 0)
  if (buckets.length === 0) return { agreed: closed, suspects: [] }
  const [inShop, inLedger, inMes] = await Promise.all([
    legacy.shopClosed(of, buckets),
    ledgerSettled(ledger, of, buckets),
    legacy.mesClosed(of, buckets),
  ])
  const suspects = new Set([
    ...onOneSide(ids(inShop), ids(inLedger)),
    ...onOneSide(priced(inShop), priced(inMes)).map((each) => each.slice(0, each.lastIndexOf(' '))),
  ])
  const ofShop = ids(inShop).filter((id) => suspects.has(id)).length
  return { agreed: closed - ofShop, suspects: [...suspects] }
}

function ids(orders: readonly Tallied[]): string[] {
  return orders.map(({ orderId }) => orderId)
}

function priced(orders: readonly Tallied[]): string[] {
  return orders.map(({ orderId, price }) => `${orderId} ${price ?? ''}`)
}

function differing(
  shop: readonly Tally[],
  ledger: readonly Tally[],
  mes: readonly Tally[],
): string[] {
  const by = (tallies: readonly Tally[]) => new Map(tallies.map((each) => [each.bucket, each]))
  const [inShop, inLedger, inMes] = [by(shop), by(ledger), by(mes)]
  return [...new Set([...inShop.keys(), ...inLedger.keys(), ...inMes.keys()])].filter((bucket) => {
    const [a, b, c] = [inShop.get(bucket), inLedger.get(bucket), inMes.get(bucket)]
    return (
      a?.orders !== b?.orders ||
      a?.ids !== b?.ids ||
      a?.orders !== c?.orders ||
      a?.prices !== c?.prices
    )
  })
}

/** Also what is there more often on one side than on the other. */
function onOneSide(a: readonly string[], b: readonly string[]): string[] {
  const more = new Map<string, number>()
  for (const each of a) more.set(each, (more.get(each) ?? 0) + 1)
  for (const each of b) more.set(each, (more.get(each) ?? 0) - 1)
  return [...more].flatMap(([each, count]) => (count === 0 ? [] : [each]))
}

/** What is on its way by us, or was refused for good. A legacy order is open as long as the Shop or the MES says so. */
async function openInLedger(ledger: Pool): Promise<string[]> {
  const { rows } = await ledger.query<{ id: string }>(
    `SELECT order_id AS id FROM order_ledger WHERE state NOT IN ('delivered', 'dead', 'cancelled') AND path = 'direct'
     UNION ALL SELECT order_id FROM order_ledger WHERE state = 'dead'`,
  )
  return rows.map(({ id }) => id)
}

// A cancelled order is the end of its way without being closed anywhere.
const inWindow = `accepted_at >= clock_timestamp() - $1::float8 * interval '1 millisecond' AND order_id <> ALL ($2::text[])
  AND state <> 'cancelled'`

async function ledgerTally(ledger: Pool, { windowMs, except }: Excluding): Promise<Tally[]> {
  const { rows } = await ledger.query<Omit<Tally, 'prices'>>(
    `SELECT right(order_id, 3) AS bucket, count(*)::int AS orders, sum(hashtextextended(order_id, 0))::text AS ids
     FROM order_ledger WHERE ${inWindow} GROUP BY 1`,
    [windowMs, except],
  )
  return rows.map((row) => ({ ...row, prices: undefined }))
}

async function ledgerSettled(
  ledger: Pool,
  { windowMs, except }: Excluding,
  buckets: readonly string[],
): Promise<Tallied[]> {
  const { rows } = await ledger.query<Tallied>(
    `SELECT order_id AS "orderId" FROM order_ledger WHERE ${inWindow} AND right(order_id, 3) = ANY ($3::text[])`,
    [windowMs, except, buckets],
  )
  return rows
}
