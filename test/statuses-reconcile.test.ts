import test from 'ava'

import { type Estate, startEstate } from '../estate/estate.ts'
import { violations } from '../estate/invariants.ts'
import { withClient } from '../estate/postgres-server.ts'
import { submitOrders } from './shop-orders-by-sql.ts'
import { waitUntil } from './wait-until.ts'

/** A Shop DB that lost statuses, as after a restore, is brought up to the MES by the operator's command, on both paths. */
let estate: Estate

test.before(async () => {
  estate = await startEstate({ without: ['shop', 'proxy'] })
})
test.after.always(() => estate?.stop())

async function say(expected: number, ...args: string[]): Promise<string> {
  const result = await estate.strangler(...args)
  if (result.code !== expected)
    throw new Error(`strangler ${args.join(' ')}: ${result.code}\n${result.stdout}${result.stderr}`)
  return result.stdout
}

interface Row {
  readonly id: string
  readonly status: string
  readonly price: string | null
}

function rows(database: 'shop' | 'mes'): Promise<Row[]> {
  const id = database === 'shop' ? 'id' : 'order_id'
  return withClient(estate.databases[database], async (client) => {
    const found = await client.query<Row>(
      `SELECT ${id}::text AS id, status, price::text FROM public.orders ORDER BY 1`,
    )
    return found.rows
  })
}

async function allPriced(count: number): Promise<Row[]> {
  return waitUntil('every price in the Shop', async () => {
    const found = await rows('shop')
    const priced = found.filter(({ status }) => status === 'PRICE_CALCULATED')
    return priced.length === count ? found : Promise.reject(new Error(`${priced.length} priced`))
  })
}

test.serial(
  'reconcile finds what the Shop lost and brings it up, each order by its own path',
  async (t) => {
    await say(0, 'bridge', 'insert')
    await say(0, 'advance', 'statuses-direct', '--share', '50%', '--force', '--why', 'a test')
    const ids = await submitOrders(estate, 20)
    const before = await allPriced(ids.length)
    await withClient(estate.databases.shop, async (client) => {
      await client.query('BEGIN')
      // Past the fence, and an hour ago: nobody's write of today.
      await client.query('SET LOCAL session_replication_role = replica')
      await client.query(
        `UPDATE public.orders SET status = 'SUBMITTED', price = NULL, updated_at = now() - interval '1 hour'`,
      )
      await client.query('COMMIT')
    })
    const quick = ['--watermark', '1s']
    const dry = await waitUntil('nothing is under way any more', async () => {
      const said = await say(1, 'reconcile', ...quick, '--redrive', '--dry-run')
      return said.includes(`stuck ${ids.length}`) && said
    })
    t.regex(dry, /would: tell the Shop PRICE_CALCULATED \d+\.\d\d EUR/)
    t.regex(dry, /would: tell CRM again PRICE_CALCULATED \d+\.\d\d EUR/)
    t.true((await rows('shop')).every(({ status }) => status === 'SUBMITTED'))

    const done = await say(0, 'reconcile', ...quick, '--redrive', '--who', 'ann')
    t.regex(done, /0 remain/)
    t.deepEqual(await allPriced(ids.length), before)
    t.deepEqual(await rows('mes'), before)
    const notes = await withClient(estate.databases.ledger, (client) =>
      client.query<{ status_path: string; n: number }>(
        `SELECT l.status_path, count(DISTINCT e.order_id)::int AS n FROM order_event e JOIN order_ledger l USING (order_id)
       WHERE e.hop = 'redrive' AND e.actor = 'ann' GROUP BY 1 ORDER BY 1`,
      ),
    )
    t.is(
      notes.rows.reduce((sum, { n }) => sum + n, 0),
      ids.length,
    )
    t.deepEqual(
      notes.rows.map((row) => row.status_path),
      ['direct', 'legacy'],
    )
    const order = await say(0, 'order', await oneOf('direct'))
    t.regex(order, /redriven, applied/)
    t.deepEqual(await violations(estate, 'quiet'), [])
  },
)

function oneOf(path: string): Promise<string> {
  return withClient(estate.databases.ledger, async (client) => {
    const found = await client.query<{ id: string }>(
      'SELECT order_id AS id FROM order_ledger WHERE status_path = $1 LIMIT 1',
      [path],
    )
    return found.rows[0]!.id
  })
}
