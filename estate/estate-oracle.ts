import pg from 'pg'

import type { Estate } from './estate.ts'

export interface OrderCounts {
  readonly submitted: number
  readonly legacy: number
  readonly direct: number
  readonly delivered: number
  readonly closed: number
  readonly lost: number
  readonly duplicated: number
  readonly inDoubt: number
}

export interface Findings {
  readonly orders: OrderCounts
  readonly lostIds: string[]
  readonly duplicatedIds: string[]
  readonly openIds: string[]
  readonly modelHashes: ReadonlyMap<string, string | null>
}

/** How far the orders are, by counting alone. */
export interface Progress {
  readonly submitted: number
  /** Of them in the MES. */
  readonly arrived: number
  /** On both sides. */
  readonly closed: number
  readonly inDoubt: number
}

/**
 * Judges by the sources alone: the Shop DB says what was submitted, the MES DB what it holds. Of the toolkit's own books only
 * the number of open doubts is read, because no source can know it.
 */
export class EstateOracle {
  readonly #estate: Estate

  constructor(estate: Estate) {
    this.#estate = estate
  }

  async findings(): Promise<Findings> {
    const { databases } = this.#estate
    const shop = await query<{ id: string; status: string; path: string | null }>(
      databases.shop,
      `SELECT o.id::text, o.status, b.path FROM public.orders o LEFT JOIN strangler.outbox b ON b.order_id = o.id
       WHERE o.source = 'shop' AND o.status NOT IN ('INITIATED', 'FILE_UPLOADED')`,
    )
    const mes = await query<{
      order_id: string
      rows: number
      closed: boolean
      hash: string | null
    }>(
      databases.mes,
      `SELECT order_id::text, count(*)::int AS rows, bool_and(status = 'CLOSED') AS closed, min(model_read_sha256) AS hash
       FROM public.orders WHERE source = 'shop' GROUP BY order_id`,
    )
    const inDoubt = await this.#inDoubt()
    const held = new Map(mes.map((row) => [row.order_id, row]))
    const lostIds = shop.filter((order) => !held.has(order.id)).map((order) => order.id)
    const openIds = shop
      .filter((order) => order.status !== 'CLOSED' || held.get(order.id)?.closed !== true)
      .map((order) => order.id)
    return {
      orders: {
        submitted: shop.length,
        legacy: shop.filter((order) => order.path !== 'direct').length,
        direct: shop.filter((order) => order.path === 'direct').length,
        delivered: shop.length - lostIds.length,
        closed: shop.length - openIds.length,
        lost: lostIds.length,
        duplicated: mes.reduce((extra, row) => extra + row.rows - 1, 0),
        inDoubt,
      },
      lostIds,
      duplicatedIds: mes.filter((row) => row.rows > 1).map((row) => row.order_id),
      openIds,
      modelHashes: new Map(mes.map((row) => [row.order_id, row.hash])),
    }
  }

  /** Cheap enough to be asked again and again while tens of thousands of orders flow; it names no order and proves nothing. */
  async progress(): Promise<Progress> {
    const { databases } = this.#estate
    const [shop] = await query<{ submitted: number; closed: number }>(
      databases.shop,
      `SELECT count(*)::int AS submitted, count(*) FILTER (WHERE status = 'CLOSED')::int AS closed FROM public.orders
       WHERE source = 'shop' AND status NOT IN ('INITIATED', 'FILE_UPLOADED')`,
    )
    const [mes] = await query<{ arrived: number; closed: number }>(
      databases.mes,
      `SELECT count(DISTINCT order_id)::int AS arrived, count(*) FILTER (WHERE status = 'CLOSED')::int AS closed
       FROM public.orders WHERE source = 'shop'`,
    )
    return {
      submitted: shop!.submitted,
      arrived: mes!.arrived,
      closed: Math.min(shop!.closed, mes!.closed),
      inDoubt: await this.#inDoubt(),
    }
  }

  async #inDoubt(): Promise<number> {
    const rows = await query<{ count: number }>(
      this.#estate.databases.ledger,
      `SELECT count(*)::int FROM order_ledger WHERE state = 'in_doubt'`,
    )
    return rows[0]!.count
  }
}

async function query<Row extends pg.QueryResultRow>(url: string, sql: string): Promise<Row[]> {
  const client = new pg.Client({
    connectionString: url,
    application_name: 'oracle',
    connectionTimeoutMillis: 10_000,
  })
  await client.connect()
  try {
    return (await client.query<Row>(sql)).rows
  } finally {
    await client.end()
  }
}
