import { bookComparison, tally } from '../../delivery/parity-book.ts'
import type { Compared } from '../../delivery/parity-book.ts'
import { failpoint } from '../../runtime/failpoint.ts'
import { inTransaction, type Pool } from '../../runtime/postgres.ts'
import { eventsToCrm } from '../wire/legacy-topology.ts'
import { statusKeys } from '../wire/mes-event.ts'
import { ourWriteOf } from '../wire/shop-write.ts'
import { deleteCrmWrites, ordersWritten, readCrmWrites } from './crm-writes.ts'
import { pairCrmWrites } from './pair-crm-writes.ts'
import type { StatusMessage } from './pair-crm-writes.ts'
import { toCompare } from './to-compare.ts'

interface CompareStatuses {
  readonly ledger: Pool
  readonly shop: Pool
  /** For so long a write of CRM may be late. */
  readonly graceMs: number
  readonly onCompared?: (compared: Compared) => void
}

const phase = 'statuses-direct'
const batch = 500
// An order has some five statuses; what has more is looked at a part at a time.
const perOrder = 500
const rememberedPerOrder = 100

interface Row {
  order_id: string
  id: string
  routing_key: string
  body: Buffer
  underway: boolean
  open: boolean
  ripe: boolean
  known: Record<string, string | null> | null
}

/**
 * One bounded batch of what the MES said through CRM: the Shop write that we would do of each message against the one that CRM
 * did. Nothing is locked but rows that are ours alone. The comparison commits in the ledger first; CRM's writes are deleted
 * after it, and a crash between the two finds them again as repetitions. Returns whether there may be more to do at once.
 */
export async function compareStatuses({
  ledger,
  shop,
  graceMs,
  onCompared,
}: CompareStatuses): Promise<boolean> {
  const written = await ordersWritten(shop, batch)
  const { rows } = await ledger.query<{ order_id: string }>({
    name: 'statuses-to-compare',
    text: `SELECT order_id FROM bridge_inbox WHERE ${toCompare[phase]} ORDER BY id LIMIT $1`,
    values: [batch],
  })
  const orderIds = [...new Set([...written, ...rows.map((row) => row.order_id)])]
  if (orderIds.length === 0) return false
  // The writes before the messages: a write that is seen then has its message in the inbox, be it still on its way.
  const { writes, inShop } = await readCrmWrites(shop, orderIds, { graceMs, perOrder })
  const { messages, underway } = await readMessages(ledger, orderIds, graceMs)
  const fromTheStart = await bridgedFromTheStart(ledger, orderIds)
  const paired = orderIds.map((orderId) =>
    pairCrmWrites({
      orderId,
      messages: messages.get(orderId) ?? [],
      writes: writes.get(orderId) ?? [],
      underway: underway.has(orderId),
      fromTheStart: fromTheStart.has(orderId),
      inShop: inShop.has(orderId),
    }),
  )
  const compared = paired.flatMap((each) => each.compared)
  const done = paired.flatMap((each) => each.done)
  const comparison = {
    compared,
    unasked: paired.flatMap((each) => each.unasked),
    skipped: [],
  }
  await inTransaction(ledger, (client) => bookComparison(client, phase, comparison))
  onCompared?.(tally(comparison))
  failpoint('shadow.booked')
  await deleteCrmWrites(shop, done)
  return compared.length + done.length > 0 && (rows.length === batch || written.length > 0)
}

/**
 * What the bridge has of these orders: all that is open, and the last of what is compared, to know a redelivery by. Their keys
 * are in no other queue; asked for by queue as well, 500,000 messages and old statistics made the planner read all of them for
 * each order (29 ms instead of 0.02, measured).
 */
async function readMessages(
  ledger: Pool,
  orderIds: readonly string[],
  graceMs: number,
): Promise<{ messages: Map<string, StatusMessage[]>; underway: Set<string> }> {
  const { rows } = await ledger.query<Row>({
    name: 'read-status-messages',
    text: `SELECT o.id AS order_id, i.id, i.routing_key, i.body, i.state IN ('received', 'held') AS underway,
             i.compared_at IS NULL AS open,
             i.settled_at <= clock_timestamp() - $2::float8 * interval '1 millisecond' AS ripe,
             (SELECT jsonb_object_agg(d.field, d.theirs) FROM parity_difference d WHERE d.inbox_id = i.id) AS known
           FROM unnest($1::text[]) o(id) CROSS JOIN LATERAL (
             (SELECT * FROM bridge_inbox b WHERE b.order_id = o.id AND b.routing_key = ANY($3::text[])
                AND b.compared_at IS NULL AND b.state IN ('received', 'held', 'forwarded') ORDER BY b.id LIMIT $4)
             UNION ALL
             (SELECT * FROM bridge_inbox b WHERE b.order_id = o.id AND b.routing_key = ANY($3::text[])
                AND b.compared_at IS NOT NULL ORDER BY b.id DESC LIMIT $5)) i
           ORDER BY i.id`,
    values: [orderIds, graceMs, statusKeys, perOrder, rememberedPerOrder],
  })
  const messages = new Map<string, StatusMessage[]>()
  const underway = new Set<string>()
  for (const row of rows) {
    if (row.underway) {
      underway.add(row.order_id)
      continue
    }
    const of = messages.get(row.order_id) ?? []
    messages.set(row.order_id, of)
    of.push({
      inboxId: row.id,
      ours: ourWriteOf(row.routing_key, row.body),
      open: row.open,
      ripe: row.ripe,
      known: row.known ?? {},
    })
  }
  return { messages, underway }
}

/** The orders that came when the bridge stood already. Both times are of the ledger's clock. */
async function bridgedFromTheStart(
  ledger: Pool,
  orderIds: readonly string[],
): Promise<Set<string>> {
  const { rows } = await ledger.query<{ order_id: string }>({
    name: 'bridged-from-the-start',
    text: `SELECT l.order_id FROM order_ledger l JOIN bridge b ON b.queue = $2 AND b.state = 'inserted'
           WHERE l.order_id = ANY($1::text[]) AND l.accepted_at > b.changed_at`,
    values: [orderIds, eventsToCrm.queue],
  })
  return new Set(rows.map((row) => row.order_id))
}
