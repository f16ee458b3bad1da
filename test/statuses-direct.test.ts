import test from 'ava'

import { EstateOracle } from '../estate/estate-oracle.ts'
import { type Estate, startEstate } from '../estate/estate.ts'
import { staff } from '../estate/people.ts'
import { withClient } from '../estate/postgres-server.ts'
import { submitOrders } from './shop-orders-by-sql.ts'
import { waitUntil } from './wait-until.ts'

/** Statuses and prices past CRM, from the operator's click to the Shop DB, with the real pages and processes. */
let estate: Estate

test.before(async () => {
  estate = await startEstate({ without: ['shop', 'proxy'] })
})
test.after.always(() => estate?.stop())

async function say(...args: string[]): Promise<void> {
  const result = await estate.strangler(...args)
  if (result.code !== 0) throw new Error(`strangler ${args.join(' ')}: ${result.stderr}`)
}

test.serial(
  'every order ends closed on both sides, and CRM carries no status of a direct one',
  async (t) => {
    await say('bridge', 'insert')
    await say('advance', 'orders-direct', '--share', '50%', '--force', '--why', 'a test')
    await say('advance', 'statuses-direct', '--share', '50%', '--force', '--why', 'a test')
    const people = staff(estate.pages)
    try {
      const ids = await submitOrders(estate, 60)
      const oracle = new EstateOracle(estate)
      await waitUntil('all closed', async () => {
        const { orders } = await oracle.findings()
        return orders.closed === ids.length
          ? true
          : Promise.reject(new Error(JSON.stringify(orders)))
      })
    } finally {
      await people.stop()
    }
    const { rows } = await withClient(estate.databases.ledger, (client) =>
      client.query<{ status_path: string; state: string; n: number }>(
        `SELECT l.status_path, b.state, count(*)::int AS n FROM bridge_inbox b JOIN order_ledger l USING (order_id)
       WHERE b.queue = 'crm.events' GROUP BY 1, 2 ORDER BY 1, 2`,
      ),
    )
    t.log(rows)
    t.deepEqual(
      rows.map((row) => [row.status_path, row.state]),
      [
        ['direct', 'diverted'],
        ['legacy', 'forwarded'],
      ],
    )
  },
)
