import { externalIdKey, requestHash } from '../../contracts/partner-order.ts'
import { bookComparison, tally } from '../../delivery/parity-book.ts'
import type { Compared } from '../../delivery/parity-book.ts'
import { inTransaction, type Pool } from '../../runtime/postgres.ts'
import { readOrderCreated } from '../wire/partner-order-messages.ts'
import { toCompare } from './to-compare.ts'

const phase = 'partner-intake'
const batch = 500

interface Row {
  id: string
  order_id: string
  body: Buffer
}

/** The one field there is: of what was asked for, the intake keeps a hash, and the MES's message has it in words. */
export const createdFields: readonly string[] = ['content']

/**
 * One bounded batch of orders that the intake has passed on to the MES: what the MES has made of each, as it tells CRM, against
 * what the intake would have accepted. An order that did not come through the intake has nothing of ours to compare.
 */
export async function compareCreated(
  { ledger, intake }: { readonly ledger: Pool; readonly intake: Pool },
  onCompared?: (compared: Compared) => void,
): Promise<boolean> {
  const { rows } = await ledger.query<Row>({
    name: 'created-to-compare',
    text: `SELECT id, order_id, body FROM bridge_inbox WHERE ${toCompare[phase]} ORDER BY id LIMIT $1`,
    values: [batch],
  })
  if (rows.length === 0) return false
  const told = rows.map((row) => ({ row, order: readOrderCreated(row.body) }))
  const asked = await askedFor(
    intake,
    told.flatMap(({ order }) => order ?? []),
  )
  const compared = []
  const skipped = []
  for (const { row, order } of told) {
    const ours = order && asked.get(keyOf(order))
    if (order === undefined || ours === undefined) {
      skipped.push(row.id)
      continue
    }
    const theirs = requestHash(order)
    compared.push({
      inboxId: row.id,
      orderId: row.order_id,
      differences: ours.equals(theirs)
        ? []
        : [{ field: 'content', ours: ours.toString('hex'), theirs: theirs.toString('hex') }],
      again: false,
    })
  }
  const comparison = { compared, unasked: [], skipped }
  await inTransaction(ledger, (client) => bookComparison(client, phase, comparison))
  onCompared?.(tally(comparison))
  return rows.length === batch
}

interface Named {
  readonly partner: string
  readonly externalId: string
}

function keyOf({ partner, externalId }: Named): string {
  return `${partner}\n${externalId}`
}

/** The hashes of the requests that the intake has passed on, by partner and external id. */
async function askedFor(intake: Pool, orders: readonly Named[]): Promise<Map<string, Buffer>> {
  const { rows } = await intake.query<{ n: number; sha256: Buffer }>(
    `SELECT i.n::int, a.request_sha256 AS sha256
     FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS i(partner, key_sha256, n)
     JOIN answer a ON a.partner = i.partner AND a.key_sha256 = i.key_sha256 AND a.forwarded`,
    [
      orders.map(({ partner }) => partner),
      orders.map(({ externalId }) => externalIdKey(externalId)),
    ],
  )
  return new Map(rows.map(({ n, sha256 }) => [keyOf(orders[n - 1]!), sha256]))
}
