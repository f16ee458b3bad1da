import { statusRank } from '../../contracts/order.ts'
import { compareOrder, waitsInMesQueue } from '../../delivery/compare-order.ts'
import type { Difference } from '../../delivery/difference.ts'
import type { MesProgress } from '../../delivery/order-sides.ts'
import { readSides } from '../../delivery/read-sides.ts'
import type { Pool } from '../../runtime/postgres.ts'
import { readMesOrders } from '../wire/mes-order-pages.ts'
import { readShopOrders } from '../wire/shop-orders.ts'

type Asking = <Result>(ask: (pool: Pool) => Promise<Result>) => Promise<Result>

/** What throws names its side; see `GateSources`. */
export interface PartnerSides {
  readonly ledger: Pool
  readonly shop: Asking
  readonly mes: Asking
  readonly intake: Asking
}

export interface PartnerBooks {
  /** Orders of partners behind the intake: of the window, or not closed. */
  readonly accepted: number
  readonly terminal: number
  readonly inFlight: number
  readonly differences: readonly Difference[]
}

interface Options {
  readonly windowMs: number
  /** Whatever changed within it is under way. */
  readonly watermarkMs: number
  /** How far the MES has come in its queue; undefined: not asked, and then what it has not taken is missing. */
  readonly progress?: MesProgress
  /** Only orders that the intake has accepted itself, also of partners that have been released since. */
  readonly bornHere?: boolean
}

interface IntakeOrder {
  readonly orderId: string
  readonly born: 'mes' | 'intake'
  readonly status: string
  readonly price: string | null
  readonly relayed: boolean | null
  /** Since the relay took its last order; null = none yet. */
  readonly relayQuietForMs: number | null
  readonly ageMs: number
  readonly quietForMs: number
}

const pageSize = 5000

/**
 * The books of the partners' channel: every order that the intake knows, on three sides more (ledger, MES, and the Shop DB that CRM
 * writes), and every order of these partners that the MES has and the intake does not.
 */
export async function readPartnerBooks(
  sides: PartnerSides,
  options: Options,
): Promise<PartnerBooks> {
  const counts = { accepted: 0, terminal: 0, inFlight: 0 }
  const differences: Difference[] = []
  let after: string | undefined
  do {
    const page = await intakePage(sides.intake, after, options)
    const found = await judgePage(sides, page, options)
    for (const order of page) {
      const ofOrder = found.get(order.orderId) ?? []
      differences.push(...ofOrder)
      counts.accepted += 1
      if (ofOrder.some(({ waits }) => !waits)) continue
      if (ofOrder.length === 0 && order.status === 'CLOSED') counts.terminal += 1
      else counts.inFlight += 1
    }
    after = page.length === pageSize ? page.at(-1)!.orderId : undefined
  } while (after !== undefined)
  if (options.bornHere !== true) {
    const unknown = await unknownToIntake(sides, options)
    counts.accepted += unknown.length
    differences.push(...unknown)
  }
  return { ...counts, differences }
}

async function intakePage(
  intake: Asking,
  after: string | undefined,
  { windowMs, bornHere }: Options,
): Promise<IntakeOrder[]> {
  const { rows } = await intake((pool) =>
    pool.query<IntakeOrder>(
      `SELECT o.id::text AS "orderId", o.born, o.status, o.price::text AS price, b.relayed_at IS NOT NULL AS relayed,
         (extract(epoch FROM clock_timestamp() - (SELECT max(relayed_at) FROM outbox)) * 1000)::float8 AS "relayQuietForMs",
         (extract(epoch FROM clock_timestamp() - o.created_at) * 1000)::float8 AS "ageMs",
         (extract(epoch FROM clock_timestamp() - greatest(o.updated_at, b.relayed_at, o.created_at)) * 1000)::float8 AS "quietForMs"
       FROM partner_order o JOIN partner p ON p.id = o.partner AND (p.route <> 'mes' OR $3) LEFT JOIN outbox b ON b.order_id = o.id
       WHERE o.id > $1::uuid AND (o.status <> 'CLOSED' OR o.created_at > clock_timestamp() - $2::float8 * interval '1 millisecond')
         AND ($3 = false OR o.born = 'intake')
       ORDER BY o.id LIMIT ${pageSize}`,
      [after ?? '00000000-0000-0000-0000-000000000000', windowMs, bornHere === true],
    ),
  )
  return rows
}

async function judgePage(
  { ledger, shop, mes }: PartnerSides,
  page: readonly IntakeOrder[],
  { watermarkMs, progress }: Options,
): Promise<ReadonlyMap<string, Difference[]>> {
  const ids = page.map(({ orderId }) => orderId)
  const inShop = await shop((pool) => readShopOrders(pool, { ids }))
  const unapplied = await unappliedOf(ledger, ids)
  const sides = await readSides(
    { ledger, legacy: { mesOrders: (some) => mes((pool) => readMesOrders(pool, some)) } },
    ids,
    inShop,
  )
  const found = new Map<string, Difference[]>()
  for (const [index, order] of page.entries()) {
    const side = sides[index]!
    const of: Difference[] = []
    const add = (kind: Difference['kind'], says: string, waits = false): void =>
      void of.push({
        kind,
        toward: 'MES',
        orderId: order.orderId,
        says,
        remedy: undefined,
        waits,
      })
    if (order.born === 'intake' && side.ledger === undefined) {
      if (order.relayed !== true) {
        // Behind a flood it waits for its turn, which comes as long as the relay goes on.
        if (Math.min(order.ageMs, order.relayQuietForMs ?? order.ageMs) > watermarkMs)
          add('stuck', 'it is in the outbox of the intake: is its relay running?', true)
      } else if (order.quietForMs > watermarkMs)
        add('lost', 'the relay brought it to the ledger, which does not have it any more')
    } else if (progress === undefined || !waitsInMesQueue(side, progress, watermarkMs)) {
      of.push(...compareOrder(side, watermarkMs).filter(({ toward }) => toward === 'MES'))
    }
    const behind = side.mes !== undefined && statusRank(order.status) < statusRank(side.mes.status)
    const otherPrice =
      side.mes !== undefined && side.mes.price !== null && side.mes.price !== order.price
    const quiet = Math.min(order.quietForMs, side.mes?.quietForMs ?? 0)
    if ((behind || otherPrice) && quiet > watermarkMs) {
      const theirs = `${side.mes?.status} ${side.mes?.price ?? ''}`.trim()
      const ours = `${order.status} ${order.price ?? ''}`.trim()
      add(
        behind ? 'stuck' : 'price mismatch',
        `the MES says ${theirs}, the intake ${ours}`,
        unapplied.has(order.orderId),
      )
    }
    if (of.length > 0) found.set(order.orderId, of)
  }
  return found
}

/** Of these, the orders of which the feed has something still to apply. */
async function unappliedOf(ledger: Pool, ids: readonly string[]): Promise<Set<string>> {
  const { rows } = await ledger.query<{ id: string }>(
    'SELECT DISTINCT order_id AS id FROM partner_event WHERE applied_at IS NULL AND order_id = ANY($1::text[])',
    [ids],
  )
  return new Set(rows.map(({ id }) => id))
}

/** The MES has made them, and whoever asks the intake is told that there is no such order. */
async function unknownToIntake(
  { intake, mes }: PartnerSides,
  { windowMs, watermarkMs }: Options,
): Promise<Difference[]> {
  const behind = await intake((pool) =>
    pool.query<{ id: string }>(`SELECT id FROM partner WHERE route = 'intake'`),
  )
  const inMes = await mes((pool) =>
    pool.query<{ id: string; partner: string }>(
      `SELECT DISTINCT order_id::text AS id, partner FROM public.orders WHERE partner = ANY($1::text[])
         AND received_at > clock_timestamp() - $2::float8 * interval '1 millisecond'
         AND received_at < clock_timestamp() - $3::float8 * interval '1 millisecond'`,
      [behind.rows.map(({ id }) => id), windowMs, watermarkMs],
    ),
  )
  const known = await intake((pool) =>
    pool.query<{ id: string }>('SELECT id::text FROM partner_order WHERE id = ANY($1::uuid[])', [
      inMes.rows.map(({ id }) => id),
    ]),
  )
  const ids = new Set(known.rows.map(({ id }) => id))
  return inMes.rows
    .filter(({ id }) => !ids.has(id))
    .map(({ id, partner }) => ({
      kind: 'ghost',
      toward: 'MES',
      orderId: id,
      says: `the MES has it of ${partner}, and the intake does not know it: strangler partner enter ${partner} imports it`,
      remedy: undefined,
      waits: false,
    }))
}

/** External ids of which the MES has more than one order, and the intake has answered for one. */
export async function readTwice(
  { intake, mes }: PartnerSides,
  { windowMs }: Pick<Options, 'windowMs'>,
): Promise<Difference[]> {
  const behind = await intake((pool) =>
    pool.query<{ id: string; since: Date }>(
      `SELECT id, entered_at AS since FROM partner WHERE route = 'intake' AND entered_at IS NOT NULL`,
    ),
  )
  const { rows } = await mes((pool) =>
    pool.query<{ orderId: string; externalId: string; partner: string; orders: number }>(
      `SELECT (array_agg(o.order_id ORDER BY o.id DESC))[1]::text AS "orderId", o.external_id AS "externalId", o.partner,
         count(DISTINCT o.order_id)::int AS orders
       FROM public.orders o JOIN unnest($1::text[], $2::timestamptz[]) AS p(id, since) ON p.id = o.partner
       GROUP BY o.partner, o.external_id
       HAVING count(DISTINCT o.order_id) > 1 AND max(o.received_at) > max(p.since)
         AND max(o.received_at) > clock_timestamp() - $3::float8 * interval '1 millisecond'`,
      [behind.rows.map(({ id }) => id), behind.rows.map(({ since }) => since), windowMs],
    ),
  )
  return rows.map(({ orderId, partner, orders }) => ({
    kind: 'duplicate',
    toward: 'MES',
    orderId,
    says: `the MES has ${orders} orders for one external id of ${partner}`,
    remedy: undefined,
    waits: false,
  }))
}
