import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'

import { EstateOracle } from '../estate/estate-oracle.ts'
import { startEstate } from '../estate/estate.ts'
import type { Estate } from '../estate/estate.ts'
import { violations } from '../estate/invariants.ts'
import { withClient } from '../estate/postgres-server.ts'
import { phases } from '../flags/phases.ts'
import { submitOrders } from './shop-orders-by-sql.ts'
import { waitUntil } from './wait-until.ts'

const folder = join(import.meta.dirname, '../runbooks')

/** The commands of a page, in order: the lines of its `sh` blocks. */
async function commandsOf(page: string): Promise<string[][]> {
  const text = await readFile(join(folder, page), 'utf8')
  const blocks = [...text.matchAll(/^```sh\n([\s\S]*?)^```/gm)].map((match) => match[1]!)
  return blocks
    .flatMap((block) => block.split('\n'))
    .filter((line) => line.startsWith('strangler '))
    .map((line) =>
      [...line.matchAll(/"([^"]*)"|(\S+)/g)].map((word) => word[1] ?? word[2]!).slice(1),
    )
}

/** Many enough that a tenth of those submitted between two commands is never nobody. */
const perCommand = 20

/** How many orders went each way by what the page's phase decides. */
async function paths(estate: Estate, page: string): Promise<Record<string, number>> {
  const ofStatuses = page === 'statuses-direct.md'
  return withClient(estate.databases[ofStatuses ? 'ledger' : 'shop'], async (client) => {
    const { rows } = await client.query<{ path: string; n: number }>(
      ofStatuses
        ? `SELECT status_path AS path, count(*)::int AS n FROM order_ledger WHERE status_path IS NOT NULL GROUP BY 1`
        : 'SELECT path, count(*)::int AS n FROM strangler.outbox GROUP BY 1',
    )
    return Object.fromEntries(rows.map(({ path, n }) => [path, n]))
  })
}

async function pricedInShop(estate: Estate): Promise<number> {
  return withClient(estate.databases.shop, async (client) => {
    const { rows } = await client.query<{ n: number }>(
      `SELECT count(*)::int AS n FROM public.orders WHERE status = 'PRICE_CALCULATED' AND price IS NOT NULL`,
    )
    return rows[0]!.n
  })
}

const pages = (await readdir(folder)).filter((name) => name.endsWith('.md'))

test('every phase has its page, and there is no other', (t) => {
  t.deepEqual(
    pages.map((page) => `runbooks/${page}`).toSorted(),
    phases.map(({ runbook }) => runbook).toSorted(),
  )
})

for (const page of pages) {
  test.serial(
    `${page}: every command does what the page says, in its order, on a living estate`,
    async (t) => {
      const commands = await commandsOf(page)
      t.true(commands.length > 0, `${page} has commands`)
      const estate = await startEstate()
      try {
        const administrator = {
          SHOP_URL: estate.databases.shop,
          LEDGER_URL: estate.databases.ledger,
          MES_URL: estate.databases.mes,
        }
        for (const command of commands) {
          // Orders flow from before the first command to after the last one.
          const ids = await submitOrders(estate, perCommand)
          const result =
            command[0] === 'migrate'
              ? await estate.stranglerWith(administrator, ...command)
              : await estate.strangler(...command)
          t.is(
            result.code,
            0,
            `${page}: strangler ${command.join(' ')}\n${result.stdout}${result.stderr}`,
          )
          t.not(result.stdout, '', `${page}: strangler ${command.join(' ')} says something`)
          t.is(ids.length, perCommand)
        }
        const oracle = new EstateOracle(estate)
        const { orders } = await waitUntil(
          'every order in the MES, and its price in the Shop',
          async () => {
            const findings = await oracle.findings()
            const priced = await pricedInShop(estate)
            return (
              (findings.orders.lost === 0 && priced === findings.orders.submitted && findings) ||
              Promise.reject(new Error(`${findings.orders.lost} lost, ${priced} priced`))
            )
          },
        )
        t.is(orders.submitted, commands.length * perCommand)
        t.is(orders.duplicated, 0)
        const { direct = 0, legacy = 0 } = await paths(estate, page)
        t.log(`${direct} direct, ${legacy} legacy`)
        t.true(direct > 0 && legacy > 0, `${page} led orders over both paths`)
        const broken = await violations(estate, 'quiet')
        // What CRM sent before the bridge was in, the ledger never heard of.
        t.deepEqual(
          broken.filter(({ invariant }) => invariant !== 'every order is delivered'),
          [],
        )
      } finally {
        await estate.stop()
      }
    },
  )
}
