import type { Estate } from '../../estate/estate.ts'
import { withClient } from '../../estate/postgres-server.ts'

/** What became of what the MES told, by the two databases and the pages; only the ways that it went are from our books. */
export interface StatusFindings {
  /** Prices and statuses that the MES published. */
  readonly events: number
  /** Of them past CRM, and settled in the Shop DB. */
  readonly applied: number
  /** Of them by CRM. */
  readonly forwarded: number
  /** Orders whose status in the Shop DB is not yet the MES's. */
  readonly behind: number
  /** Orders whose price in the Shop DB is not the MES's, or whose final status and price a page does not show. */
  readonly wrong: number
  readonly lateWrites: number
}

interface Row {
  readonly id: string
  readonly status: string
  readonly price: string | null
}

export async function statusFindings(estate: Estate): Promise<StatusFindings> {
  const shop = await query<Row>(
    estate.databases.shop,
    `SELECT id::text, status, price::text FROM public.orders WHERE status NOT IN ('INITIATED', 'FILE_UPLOADED')`,
  )
  const mes = await query<Row>(
    estate.databases.mes,
    `SELECT order_id::text AS id, status, price::text FROM public.orders`,
  )
  const inMes = new Map(mes.map((row) => [row.id, row]))
  const behind = shop.filter(({ id, status }) => status !== inMes.get(id)?.status)
  const sellers = await sellersSee(estate.pages.crm)
  const wrong = await countWrong(shop, async ({ id, status, price }) => {
    if (price !== inMes.get(id)?.price) return true
    if (sellers.get(id) !== `${status} ${price}`) return true
    return !(await customerSees(estate.pages.shop, id)).includes(`data-state="${status} ${price}"`)
  })
  const [told] = await query<{ count: number }>(
    estate.databases.mes,
    `SELECT count(*)::int AS count FROM public.outgoing_events WHERE routing_key <> 'order.created' AND published_at IS NOT NULL`,
  )
  const [ways] = await query<{ applied: number; forwarded: number }>(
    estate.databases.ledger,
    `SELECT (SELECT count(*)::int FROM status_inbox WHERE settled_at IS NOT NULL) AS applied,
       (SELECT count(*)::int FROM bridge_inbox WHERE queue = 'crm.events' AND routing_key <> 'order.created' AND state = 'forwarded') AS forwarded`,
  )
  const [late] = await query<{ count: number }>(
    estate.databases.shop,
    'SELECT count(*)::int AS count FROM strangler.late_writes',
  )
  return {
    events: told!.count,
    ...ways!,
    behind: behind.length,
    wrong,
    lateWrites: late!.count,
  }
}

async function countWrong(
  orders: readonly Row[],
  isWrong: (order: Row) => Promise<boolean>,
): Promise<number> {
  const queue = [...orders]
  const wrong: string[] = []
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      for (let order = queue.shift(); order !== undefined; order = queue.shift()) {
        if (await isWrong(order)) wrong.push(order.id)
      }
    }),
  )
  return wrong.length
}

async function customerSees(shop: string, id: string): Promise<string> {
  const response = await fetch(`${shop}/orders/${id}`)
  return response.text()
}

/** Status and price of every order on the sellers' pages, by order id. */
async function sellersSee(crm: string): Promise<Map<string, string>> {
  const seen = new Map<string, string>()
  for (let page = 1; ; page += 1) {
    const response = await fetch(`${crm}/?page=${page}`)
    const items = (await response.text()).split('<li>').slice(1)
    if (items.length === 0) return seen
    for (const item of items) {
      const id = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/.exec(item)?.[0]
      const status = /class="status">([A-Z_]+)</.exec(item)?.[1]
      const price = /<strong>([\d.]+) /.exec(item)?.[1]
      if (id !== undefined) seen.set(id, `${status} ${price}`)
    }
  }
}

function query<Found extends object>(url: string, sql: string): Promise<Found[]> {
  return withClient(url, async (client) => (await client.query<Found>(sql)).rows)
}
