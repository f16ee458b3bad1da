import { bookComparison, tally } from '../../delivery/parity-book.ts'
import type { Compared, ComparedMessage } from '../../delivery/parity-book.ts'
import { inTransaction, type Pool } from '../../runtime/postgres.ts'
import { propertiesFromJson } from '../bridge/stored-properties.ts'
import { compareSubmitted } from '../wire/compare-submitted.ts'
import { toCompare } from './to-compare.ts'

const phase = 'orders-direct'
const batch = 500

interface Row {
  id: string
  order_id: string
  routing_key: string
  body: Buffer
  properties: unknown
  /** The row that the ledger has of the order is made of the Shop's outbox, and not of this message. */
  made_by_us: boolean
  captured: boolean
  our_key: string | null
  our_body: Buffer | null
}

/**
 * One bounded batch of the orders that went through CRM: the message to the MES that we would have sent, as the ledger has it,
 * against the one that CRM sent. An order that was submitted before the capture has none of ours. Returns whether there may be
 * more to do at once.
 */
export async function compareOrders(
  ledger: Pool,
  onCompared?: (compared: Compared) => void,
): Promise<boolean> {
  const { rows } = await ledger.query<Row>({
    name: 'orders-to-compare',
    text: `SELECT i.id, i.order_id, i.routing_key, i.body, i.properties, l.model_sha256 IS NOT NULL AS made_by_us,
             l.order_id IS NOT NULL AND l.path_reason ->> 'rule' IS DISTINCT FROM 'submitted before the capture' AS captured,
             l.routing_key AS our_key, l.body AS our_body
           FROM (SELECT * FROM bridge_inbox WHERE ${toCompare[phase]} ORDER BY id LIMIT $1) i
           LEFT JOIN order_ledger l ON l.order_id = i.order_id ORDER BY i.id`,
    values: [batch],
  })
  const [captured, skipped] = [rows.filter((row) => row.captured), rows.filter(isUncaptured)]
  const comparison = {
    compared: captured.map(compare),
    unasked: [],
    skipped: skipped.map(({ id }) => id),
  }
  await inTransaction(ledger, (client) => bookComparison(client, phase, comparison))
  onCompared?.(tally(comparison))
  return rows.length === batch
}

function isUncaptured(row: Row): boolean {
  return !row.captured
}

function compare(row: Row): ComparedMessage {
  const { our_key: routingKey, our_body: body } = row
  // A captured row that no message can be made of: there is none of ours, and the order would be dead on the direct path.
  const ours =
    row.made_by_us && routingKey !== null && body !== null ? { routingKey, body } : undefined
  const theirs = {
    routingKey: row.routing_key,
    body: row.body,
    properties: propertiesFromJson(row.properties),
  }
  return {
    inboxId: row.id,
    orderId: row.order_id,
    differences: compareSubmitted(ours, theirs),
    again: false,
  }
}
