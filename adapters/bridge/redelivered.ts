import type { Pool } from '../../runtime/postgres.ts'
import { readLegacyMessage } from '../wire/legacy-message.ts'
import type { Incoming } from './incoming.ts'
import { messageKey } from './message-key.ts'
import { propertiesFromJson } from './stored-properties.ts'

/*
 * After a crash a broker gives back everything that was not acknowledged, in its order, and says `redelivered` of all of it: of what
 * the bridge had stored, and of what it never looked at. A message that has neither id nor time can't say itself which it is. The
 * sequence can: of an order, what was stored and comes again are the last rows in the inbox and the first messages that come.
 *
 *   stored   ... x A B         what comes again   A B A         so A and B are those rows, and the last A is new
 *
 * Where a run of messages was really sent twice in a row, it is taken for the same: the order ends where its last message left it.
 */

/** How many of `again`, from the first on, are the last of `stored`. */
export function storedBefore(stored: readonly string[], again: readonly string[]): number {
  for (let length = Math.min(stored.length, again.length); length > 0; length -= 1) {
    const from = stored.length - length
    if (again.slice(0, length).every((each, index) => each === stored[from + index])) return length
  }
  return 0
}

interface Row {
  msg_key: Buffer
  routing_key: string
  body: Buffer
  properties: unknown
}

/** The keys of those among the deliveries that are in the inbox already and do not say so. */
export async function keysOfRedelivered(
  ledger: Pool,
  queue: string,
  incoming: readonly Incoming[],
): Promise<Map<Incoming, Buffer>> {
  const keys = new Map<Incoming, Buffer>()
  const nameless = incoming.filter(
    ({ delivery, message }) => delivery.redelivered && messageKey(delivery, message) === undefined,
  )
  for (const [orderId, again] of Map.groupBy(nameless, ({ message }) => message?.orderId)) {
    const rows = await lastRows(ledger, queue, orderId, again.length)
    const count = storedBefore(
      rows.map(({ routing_key: key, body }) => nameOf(key, body)),
      again.map(({ delivery: { routingKey, body } }) => nameOf(routingKey, body)),
    )
    for (const [index, each] of again.slice(0, count).entries())
      keys.set(each, rows[rows.length - count + index]!.msg_key)
  }
  return keys
}

/** An order has a handful; what is unreadable, or a loop of the MES, may have any number. */
const lookedAt = 2000

/** The latest of the order's rows that have neither id nor time, in their order. */
async function lastRows(
  ledger: Pool,
  queue: string,
  orderId: string | undefined,
  limit: number,
): Promise<Row[]> {
  const { rows } = await ledger.query<Row>(
    `SELECT msg_key, routing_key, body, properties FROM bridge_inbox
     WHERE queue = $1 AND ${orderId === undefined ? '$2::text IS NULL AND order_id IS NULL' : 'order_id = $2'}
     ORDER BY id DESC LIMIT ${lookedAt}`,
    [queue, orderId ?? null],
  )
  return rows
    .filter(
      ({ routing_key: routingKey, body, properties }) =>
        messageKey(
          { routingKey, body, properties: propertiesFromJson(properties) },
          readLegacyMessage(body),
        ) === undefined,
    )
    .slice(0, limit)
    .toReversed()
}

function nameOf(routingKey: string, body: Buffer): string {
  return `${routingKey} ${body.toString('base64')}`
}
