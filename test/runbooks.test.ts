import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'

import { EstateOracle } from '../estate/estate-oracle.ts'
import { startEstate } from '../estate/estate.ts'
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

test('every command of every runbook does what the page says, in its order, on a living estate', async (t) => {
  const pages = (await readdir(folder)).filter((name) => name.endsWith('.md'))
  t.true(pages.length > 0, 'there are runbooks')
  for (const page of pages) {
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
        const ids = await submitOrders(estate, 5)
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
        t.is(ids.length, 5)
      }
      const oracle = new EstateOracle(estate)
      const { orders } = await waitUntil('every order in the MES', async () => {
        const findings = await oracle.findings()
        return findings.orders.lost === 0 && findings
      })
      t.is(orders.submitted, commands.length * 5)
      t.is(orders.duplicated, 0)
      t.true(orders.direct > 0 && orders.legacy > 0, 'the page led orders over both paths')
    } finally {
      await estate.stop()
    }
  }
})
