import type { DivertedStatus } from '../../delivery/status-inbox.ts'
import { sharePins } from '../../delivery/status-pins.ts'
import type { Client, Pool } from '../../runtime/postgres.ts'
import { inTransaction } from '../../runtime/postgres.ts'
import { sourceTime } from '../wire/legacy-message.ts'
import { readMesEvent } from '../wire/mes-event.ts'
import { isStatus } from './incoming.ts'
import type { Incoming } from './incoming.ts'
import { messageKey, recurringKey } from './message-key.ts'
import { readStatusWays } from './status-paths.ts'
import type { StatusWay } from './status-paths.ts'
import { propertiesToJson } from './stored-properties.ts'

export type InboxState = 'received' | 'held' | 'forwarded' | 'suppressed' | 'diverted' | 'parked'

export interface InboxRow {
  readonly id: string
  readonly state: InboxState
  /** This delivery made the row; otherwise an earlier one did. */
  readonly fresh: boolean
  /** It came while the broker was being re-bound: the legacy queue may have it as well. */
  readonly ambiguous: boolean
}

export interface Settlement {
  readonly id: string
  readonly state: InboxState
  readonly reason: string | undefined
}

const stillDirect = `SELECT l.order_id FROM order_ledger l WHERE l.order_id = ANY($3::text[]) AND l.status_path = 'direct'`

// One look at the clock: a hop that takes no time must not end before it began.
const insert = (state: 'received' | 'diverted'): string => `
  INSERT INTO bridge_inbox (queue, msg_key, order_id, routing_key, exchange, status, state, body, properties, redelivered, source_at,
    received_at, settled_at)
  SELECT $1, i.msg_key, i.order_id, i.routing_key, i.exchange, i.status, '${state}', i.body, i.properties, i.redelivered, i.source_at,
    c.now, ${state === 'received' ? 'NULL' : 'c.now'}
  FROM unnest($2::bytea[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::jsonb[], $9::bool[], $10::timestamptz[])
    WITH ORDINALITY AS i(msg_key, order_id, routing_key, exchange, status, body, properties, redelivered, source_at, n),
    (SELECT clock_timestamp() AS now OFFSET 0) c
  ${state === 'received' ? '' : `WHERE i.order_id IN (${stillDirect})`}
  ORDER BY i.n
  ON CONFLICT (queue, msg_key) DO NOTHING`
const insertReceived = `${insert('received')} RETURNING id`
const insertDiverted = `
  WITH fresh AS (${insert('diverted')} RETURNING id, msg_key, order_id, source_at, received_at),
  of_partners AS (
    INSERT INTO partner_event (id, order_id) SELECT id, order_id FROM fresh WHERE order_id = ANY($14::text[])),
  told AS (
    INSERT INTO status_inbox (id, order_id, status, price, currency, source_at, received_at)
    SELECT f.id, f.order_id, e.status, e.price, e.currency, f.source_at, f.received_at
    FROM fresh f JOIN unnest($2::bytea[], $11::text[], $12::text[], $13::text[]) AS e(msg_key, status, price, currency) ON e.msg_key = f.msg_key
    ON CONFLICT (id) DO NOTHING)
  SELECT id, msg_key FROM fresh`

// Ambiguity ends where the marker stands that was published after the change; ids follow the queue's order.
const read = `
  SELECT i.id, i.msg_key, i.state,
    CASE WHEN i.received_at < b.ambiguous_until THEN NOT EXISTS (
      SELECT FROM bridge_inbox m WHERE m.queue = i.queue AND m.order_id IS NULL AND m.reason = 'marker'
        AND m.id < i.id AND m.received_at > b.changed_at) ELSE false END AS ambiguous
  FROM bridge_inbox i LEFT JOIN bridge b ON b.queue = i.queue
  WHERE i.queue = $1 AND i.msg_key = ANY($2::bytea[])`

export interface Received {
  /** Per delivery. */
  readonly rows: readonly InboxRow[]
  /** Of the statuses among them, by order: the way that they have to go from now on. */
  readonly ways: ReadonlyMap<string, StatusWay>
}

/**
 * Stores what arrived and tells what is known of it. On return it is committed. A status that may be sent is in the inbox before its
 * order's pin can change: a repin sees it.
 */
export async function receive(
  ledger: Pool,
  queue: string,
  batch: readonly Incoming[],
): Promise<Received> {
  const keys = await keysOf(ledger, queue, batch)
  const insertion = {
    name: 'bridge-receive',
    text: insertReceived,
    values: columnsOf(queue, keys, batch),
  }
  const told = [...new Set(batch.filter(isStatus).flatMap(({ message }) => message?.orderId ?? []))]
  const { inserted, ways } =
    told.length === 0
      ? { inserted: await ledger.query<{ id: string }>(insertion), ways: new Map() }
      : await inTransaction(ledger, async (client) => {
          await sharePins(client)
          return {
            inserted: await client.query<{ id: string }>(insertion),
            ways: await readStatusWays(client, queue, told),
          }
        })
  const fresh = new Set(inserted.rows.map(({ id }) => id))
  const { rows } = await ledger.query<{
    id: string
    msg_key: Buffer
    state: InboxState
    ambiguous: boolean
  }>({ name: 'bridge-read', text: read, values: [queue, keys] })
  const byKey = new Map(rows.map((row) => [row.msg_key.toString('hex'), row]))
  return {
    rows: keys.map((key) => {
      const row = byKey.get(key.toString('hex'))!
      return { id: row.id, state: row.state, fresh: fresh.has(row.id), ambiguous: row.ambiguous }
    }),
    ways,
  }
}

/**
 * Stores statuses that go no further, settled, with their rows in the status inbox: one commit. Returns the ids of those that
 * were not there before, and undefined for the others, which an earlier delivery has brought, or whose orders have been repinned.
 */
export async function receiveDiverted(
  ledger: Pool,
  queue: string,
  batch: readonly Incoming[],
  ofPartners: readonly string[],
): Promise<(string | undefined)[]> {
  const keys = await keysOf(ledger, queue, batch)
  const events = batch.map(({ delivery }) => readMesEvent(delivery.routingKey, delivery.body))
  const { rows } = await inTransaction(ledger, async (client) => {
    await sharePins(client)
    return client.query<{ id: string; msg_key: Buffer }>({
      name: 'bridge-divert',
      text: insertDiverted,
      values: [
        ...columnsOf(queue, keys, batch),
        events.map(({ status }) => status ?? null),
        events.map(({ price }) => price ?? null),
        events.map(({ currency }) => currency ?? null),
        ofPartners,
      ],
    })
  })
  const fresh = new Map(rows.map(({ id, msg_key: key }) => [key.toString('hex'), id]))
  return keys.map((key) => {
    const name = key.toString('hex')
    const id = fresh.get(name)
    // The same message twice in one batch has one row.
    fresh.delete(name)
    return id
  })
}

/** @param incoming one that `isStatus` */
export function statusOf({ delivery, message }: Incoming): Omit<DivertedStatus, 'id'> {
  return {
    orderId: message?.orderId ?? '',
    sourceAt: message === undefined ? undefined : sourceTime(message),
    ...readMesEvent(delivery.routingKey, delivery.body),
  }
}

function columnsOf(queue: string, keys: readonly Buffer[], batch: readonly Incoming[]): unknown[] {
  return [
    queue,
    keys,
    batch.map(({ message }) => message?.orderId ?? null),
    batch.map(({ delivery }) => delivery.routingKey.replaceAll('\0', '')),
    batch.map(({ delivery }) => delivery.exchange.replaceAll('\0', '')),
    batch.map(({ message }) => message?.status ?? null),
    batch.map(({ delivery }) => delivery.body),
    batch.map(({ delivery }) => propertiesToJson(delivery.properties)),
    batch.map(({ delivery }) => delivery.redelivered),
    batch.map(({ message }) => (message === undefined ? null : (sourceTime(message) ?? null))),
  ]
}

function keysOf(ledger: Pool, queue: string, batch: readonly Incoming[]): Promise<Buffer[]> {
  return Promise.all(batch.map((incoming) => keyOf(ledger, queue, incoming)))
}

/**
 * A message with neither id nor time may be sent twice on purpose, so it follows on the last one of the same bytes; which
 * redeliveries are that last one, the sequence tells (redelivered.ts). Such messages must come here one at a time.
 */
async function keyOf(ledger: Pool, queue: string, incoming: Incoming): Promise<Buffer> {
  const { delivery, message, storedAs } = incoming
  const key = storedAs ?? messageKey(delivery, message)
  if (key !== undefined) return key
  const { rows } = await ledger.query<{ id: string }>(
    `SELECT id FROM bridge_inbox
     WHERE queue = $1 AND ${message === undefined ? '$2::text IS NULL AND order_id IS NULL' : 'order_id = $2'} AND routing_key = $3 AND body = $4
     ORDER BY id DESC LIMIT 1`,
    [queue, message?.orderId ?? null, delivery.routingKey, delivery.body],
  )
  const [last] = rows
  return recurringKey(delivery, message, last?.id)
}

/** Which of these orders have another message under this key that went on or is held. */
export async function sentBefore(
  ledger: Pool,
  queue: string,
  routingKey: string,
  orderIds: readonly string[],
  exceptIds: readonly string[],
): Promise<Set<string>> {
  if (orderIds.length === 0) return new Set()
  const { rows } = await ledger.query<{ order_id: string }>(
    // The queue as an expression: before the first ANALYZE the planner takes the index of the whole queue for a narrow one, and
    // reads it for every order (10 s for 200 of them at 300 000 rows, measured).
    `SELECT DISTINCT order_id FROM bridge_inbox
     WHERE queue || '' = $1 AND routing_key = $2 AND order_id = ANY($3::text[]) AND state IN ('held', 'forwarded') AND id <> ALL($4::bigint[])`,
    [queue, routingKey, orderIds, exceptIds],
  )
  return new Set(rows.map((row) => row.order_id))
}

/** For the partner intake: what was told of orders of partners, in the transaction that settles it. Repeating it changes nothing. */
export async function storePartnerEvents(
  client: Client | Pool,
  events: readonly { readonly id: string; readonly orderId: string }[],
): Promise<void> {
  if (events.length === 0) return
  await client.query({
    name: 'store-partner-events',
    text: `INSERT INTO partner_event (id, order_id) SELECT * FROM unnest($1::bigint[], $2::text[]) ON CONFLICT (id) DO NOTHING`,
    values: [events.map(({ id }) => id), events.map(({ orderId }) => orderId)],
  })
}

export async function settle(client: Client, settlements: readonly Settlement[]): Promise<void> {
  if (settlements.length === 0) return
  await client.query({
    name: 'bridge-settle',
    text: `UPDATE bridge_inbox i SET state = s.state, reason = s.reason,
             settled_at = CASE WHEN s.state = 'held' THEN NULL ELSE clock_timestamp() END
           FROM unnest($1::bigint[], $2::text[], $3::text[]) AS s(id, state, reason)
           WHERE i.id = s.id AND i.state IN ('received', 'held')`,
    values: [
      settlements.map(({ id }) => id),
      settlements.map(({ state }) => state),
      settlements.map(({ reason }) => reason ?? null),
    ],
  })
}
