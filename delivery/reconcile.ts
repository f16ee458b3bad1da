import type { Pool } from '../runtime/postgres.ts'
import { type BookPage, Books } from './books.ts'
import { compareOrder } from './compare-order.ts'
import type { Difference } from './difference.ts'
import { type ModelReference, modelsMissing } from './model-store.ts'
import type { MesSide, OrderSides, ShopSide } from './order-sides.ts'
import { readLedger, readSides } from './read-sides.ts'

/** The two legacy sides, whose formats are not ours to know. A side that can't be read throws: then nothing is concluded. */
export interface LegacySides {
  /** Submitted orders in the order of their ids. */
  shopPage(after: string | undefined, limit: number): Promise<readonly ShopSide[]>
  shopOrders(ids: readonly string[]): Promise<readonly ShopSide[]>
  mesOrders(ids: readonly string[]): Promise<ReadonlyMap<string, MesSide>>
  /** Ids in their order, without what came in within the watermark. */
  mesPage(after: string | undefined, limit: number, youngerMs: number): Promise<readonly string[]>
}

interface ReconcileOptions {
  readonly ledger: Pool
  readonly legacy: LegacySides
  /** Whatever changed within it is under way. */
  readonly watermarkMs: number
  readonly pageSize?: number
  /** Where the models lie; undefined: they are not looked for. */
  readonly modelDirectory?: string | undefined
  /** Called a page at a time, so that nothing has to be kept. */
  onDifferences(differences: readonly Difference[]): Promise<void> | void
}

export interface Reconciled {
  readonly inShop: number
  readonly inLedger: number
  readonly inMes: number
  /** Of the orders that the Shop's capture has, but what is under way. */
  readonly books: { readonly pages: number; readonly unbalanced: readonly BookPage[] }
}

/**
 * Compares Shop DB, ledger and MES, order by order. Each side is walked once, a page at a time, and an order is judged in the
 * first walk that meets it: all of the Shop's, then what only the ledger has, then what only the MES has.
 */
export async function reconcile(options: ReconcileOptions): Promise<Reconciled> {
  const { legacy, ledger, watermarkMs } = options
  const limit = options.pageSize ?? 5000
  const report = async (differences: readonly Difference[]): Promise<void> => {
    if (differences.length > 0) await options.onDifferences(differences)
  }

  const books = new Books()
  const inShop = await walk(
    (after) => legacy.shopPage(after, limit),
    (order) => order.orderId,
    limit,
    async (orders) => {
      const sides = await readSides(
        options,
        orders.map((order) => order.orderId),
        orders,
      )
      for (const each of sides) enterInto(books, each, watermarkMs)
      await report([
        ...sides.flatMap((each) => compareOrder(each, watermarkMs)),
        ...(await lookForModels(options.modelDirectory, orders)),
      ])
    },
  )
  const inLedger = await walk(
    (after) => ledgerPage(ledger, after, limit),
    (id) => id,
    limit,
    async (ids) => {
      const known = new Set((await legacy.shopOrders(ids)).map((order) => order.orderId))
      await judge(
        options,
        ids.filter((id) => !known.has(id)),
        [],
      ).then(report)
    },
  )
  const inMes = await walk(
    (after) => legacy.mesPage(after, limit, watermarkMs),
    (id) => id,
    limit,
    async (ids) => {
      const known = await readLedger(ledger, ids)
      const strangers = ids.filter((id) => !known.has(id))
      // Those that the Shop has were judged in the first walk.
      const inShopToo = new Set((await legacy.shopOrders(strangers)).map((order) => order.orderId))
      await judge(
        options,
        strangers.filter((id) => !inShopToo.has(id)),
        [],
      ).then(report)
    },
  )
  return {
    inShop,
    inLedger,
    inMes,
    books: { pages: books.pages, unbalanced: books.unbalanced() },
  }
}

async function lookForModels(
  directory: string | undefined,
  orders: readonly ShopSide[],
): Promise<Difference[]> {
  if (directory === undefined) return []
  // What is closed may be archived.
  const wanted = orders.flatMap(
    ({ orderId, status, model }): (ModelReference & { orderId: string })[] =>
      model === undefined || status === 'CLOSED' ? [] : [{ orderId, ...model }],
  )
  return (await modelsMissing(directory, wanted)).map(({ orderId, key, bytes }) => ({
    kind: 'model missing',
    toward: 'MES',
    orderId,
    says: `the store does not have ${key} with its ${bytes} bytes`,
    remedy: undefined,
    waits: false,
  }))
}

function enterInto(books: Books, { orderId, shop, ledger }: OrderSides, watermarkMs: number): void {
  const captured = shop?.captured
  if (captured === undefined || shop === undefined || shop.quietForMs <= watermarkMs) return
  // A hand-over changes the ledger first.
  if (ledger !== undefined && ledger.quietForMs <= watermarkMs) return
  books.add({ orderId, captured, ledger })
}

/** The same for these orders alone, whatever the time of their submit. */
export async function compareOrders(
  options: Omit<ReconcileOptions, 'onDifferences'>,
  orderIds: readonly string[],
): Promise<Difference[]> {
  const limit = options.pageSize ?? 5000
  const found: Difference[] = []
  for (let from = 0; from < orderIds.length; from += limit) {
    const page = orderIds.slice(from, from + limit)
    found.push(...(await judge(options, page, await options.legacy.shopOrders(page))))
  }
  return found
}

async function walk<Item>(
  read: (after: string | undefined) => Promise<readonly Item[]>,
  idOf: (item: Item) => string,
  limit: number,
  work: (page: readonly Item[]) => Promise<void>,
): Promise<number> {
  let count = 0
  let after: string | undefined
  for (;;) {
    const page = await read(after)
    if (page.length > 0) await work(page)
    count += page.length
    if (page.length < limit) return count
    after = idOf(page.at(-1)!)
  }
}

async function judge(
  { ledger, legacy, watermarkMs }: Omit<ReconcileOptions, 'onDifferences'>,
  ids: readonly string[],
  shopOrders: readonly ShopSide[],
): Promise<Difference[]> {
  const sides = await readSides({ ledger, legacy }, ids, shopOrders)
  return sides.flatMap((each) => compareOrder(each, watermarkMs))
}

async function ledgerPage(
  ledger: Pool,
  after: string | undefined,
  limit: number,
): Promise<string[]> {
  const { rows } = await ledger.query<{ id: string }>(
    'SELECT order_id AS id FROM order_ledger WHERE order_id > $1 ORDER BY order_id LIMIT $2',
    [after ?? '', limit],
  )
  return rows.map((row) => row.id)
}
