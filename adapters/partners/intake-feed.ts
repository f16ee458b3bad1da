import { statusRank } from '../../contracts/order.ts'
import { isPartnerOrderId } from '../../contracts/partner-order.ts'
import { failpoint } from '../../runtime/failpoint.ts'
import { inOrder, type Service } from '../../runtime/lifecycle.ts'
import type { Log } from '../../runtime/log.ts'
import { pollLoop } from '../../runtime/poll-loop.ts'
import { type Client, inTransaction, type Pool } from '../../runtime/postgres.ts'
import { readMesEvent } from '../wire/mes-event.ts'
import { readOrderCreated } from '../wire/partner-order-messages.ts'
import { type MesPartnerOrder, storeMesOrders } from './import-orders.ts'
import { settleForwards } from './settle-forwards.ts'

interface FeedOptions {
  readonly ledger: Pool
  readonly intake: Pool
  readonly mes: Pool
  /** A request that the MES was asked for so long ago, and of which it has no order, it will not make any more. */
  readonly settleMs: number
  readonly log: Log
  onApplied?(events: number): void
}

interface EventRow {
  id: string
  order_id: string
  routing_key: string
  status: string | null
  source_at: Date | null
  received_at: Date
  body: Buffer
}

/** What a run of events, in their order, makes of one order. */
interface OrderChange {
  readonly orderId: string
  readonly lastEvent: string
  readonly status: string | null
  readonly price: string | null
  readonly currency: string | null
  readonly at: Date
}

const batch = 500

/**
 * What passed the bridges about orders of partners -> the intake's database: statuses and prices of the MES, the decisions of CRM,
 * and orders that were born in the MES. Events are taken in the order of arrival and by one feed at a time: a second waits for
 * the locks of the first. The intake commits first; what a crash repeats, `applied_event` makes a no-op. Two bridges settle what they
 * tell, so an event may be here before an older one: that still says what nothing newer has said.
 */
export function intakeFeed(options: FeedOptions): Service {
  const { ledger, intake, log } = options
  const applying = pollLoop({
    name: 'intake feed',
    log,
    idleMs: () => 50,
    work: async () => {
      const { rows: waiting } = await ledger.query(
        'SELECT FROM partner_event WHERE applied_at IS NULL LIMIT 1 /* poll */',
      )
      if (waiting.length === 0) return false
      return inTransaction(ledger, async (client) => {
        const events = await lockOpen(client)
        if (events.length === 0) return false
        failpoint('intake-feed.taken')
        await apply(intake, events)
        failpoint('intake-feed.applied')
        await client.query(
          'UPDATE partner_event SET applied_at = clock_timestamp() WHERE id = ANY($1::bigint[])',
          [events.map(({ id }) => id)],
        )
        options.onApplied?.(events.length)
        return events.length === batch
      })
    },
  })
  const settling = pollLoop({
    name: 'forwards',
    log,
    idleMs: () => 1000,
    work: async () => {
      await settleForwards(options)
      return false
    },
  })
  return inOrder([applying, settling])
}

async function lockOpen(client: Client): Promise<EventRow[]> {
  const { rows } = await client.query<EventRow>({
    name: 'partner-events',
    text: `SELECT e.id, e.order_id, i.routing_key, i.status, i.source_at, i.received_at, i.body
           FROM partner_event e JOIN bridge_inbox i ON i.id = e.id
           WHERE e.applied_at IS NULL ORDER BY e.id LIMIT ${batch} FOR UPDATE OF e`,
  })
  return rows
}

async function apply(intake: Pool, events: readonly EventRow[]): Promise<void> {
  const { rows: partners } = await intake.query<{ id: string }>(
    `SELECT id FROM partner WHERE route <> 'mes'`,
  )
  const behind = new Set(partners.map(({ id }) => id))
  // An order that the MES told CRM of is there before anything else that is told of it.
  for (const { body } of events.filter(({ routing_key: key }) => key === 'order.created')) {
    const born = readOrderCreated(body)
    if (born !== undefined && behind.has(born.partner))
      await storeMesOrders(intake, born.partner, [asMesOrder(born)])
  }
  const changes = changesOf(events)
  if (changes.length === 0) return
  await intake.query({
    name: 'apply-changes',
    // A partner that has asked for it is told of what changed, in the transaction that changes it.
    text: `WITH changed AS (
           UPDATE partner_order o SET
             status = CASE WHEN status_rank(c.status) > status_rank(o.status) THEN c.status ELSE o.status END,
             price = CASE WHEN o.applied_event < c.last_event THEN coalesce(c.price, o.price) ELSE coalesce(o.price, c.price) END,
             currency = CASE WHEN o.applied_event < c.last_event THEN coalesce(c.currency, o.currency) ELSE coalesce(o.currency, c.currency) END,
             updated_at = greatest(o.updated_at, c.at), applied_event = greatest(o.applied_event, c.last_event)
           FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::numeric[], $5::text[], $6::timestamptz[])
             AS c(id, last_event, status, price, currency, at)
           WHERE o.id = c.id AND (o.applied_event < c.last_event
             OR o.price IS NULL AND c.price IS NOT NULL OR status_rank(c.status) > status_rank(o.status))
           RETURNING o.*)
           INSERT INTO webhook_message (partner, order_id, body)
           SELECT o.partner, o.id, json_build_object('type', 'order.changed', 'timestamp', clock_timestamp(), 'data', json_build_object(
             'id', o.id, 'external_id', o.external_id, 'status', o.status, 'price', o.price::text, 'currency', o.currency))::text
           FROM changed o JOIN webhook w ON w.partner = o.partner AND w.disabled_at IS NULL`,
    values: [
      changes.map(({ orderId }) => orderId),
      changes.map(({ lastEvent }) => lastEvent),
      changes.map(({ status }) => status),
      changes.map(({ price }) => price),
      changes.map(({ currency }) => currency),
      changes.map(({ at }) => at),
    ],
  })
}

function changesOf(events: readonly EventRow[]): OrderChange[] {
  const changes = new Map<string, OrderChange>()
  for (const event of events) {
    if (event.routing_key === 'order.created' || !isPartnerOrderId(event.order_id)) continue
    const told = toldBy(event)
    const before = changes.get(event.order_id)
    const isAhead = statusRank(told.status ?? '') > statusRank(before?.status ?? '')
    changes.set(event.order_id, {
      orderId: event.order_id,
      lastEvent: event.id,
      status: (isAhead ? told.status : before?.status) ?? null,
      price: told.price ?? before?.price ?? null,
      currency: told.currency ?? before?.currency ?? null,
      at: event.source_at ?? event.received_at,
    })
  }
  return [...changes.values()]
}

/** What CRM decides has the status in its name. */
function toldBy({ routing_key: key, body }: EventRow): {
  readonly status: string | undefined
  readonly price: string | undefined
  readonly currency: string | undefined
} {
  switch (key) {
    case 'order.approved':
      return { status: 'MANUFACTURING_APPROVED', price: undefined, currency: undefined }
    case 'order.closed':
      return { status: 'CLOSED', price: undefined, currency: undefined }
    default: {
      const { status, price, currency } = readMesEvent(key, body)
      const isPrice = price !== undefined && /^\d{1,10}(\.\d{1,2})?$/u.test(price)
      return { status, price: isPrice ? price : undefined, currency }
    }
  }
}

function asMesOrder(born: NonNullable<ReturnType<typeof readOrderCreated>>): MesPartnerOrder {
  const { createdAt, ...order } = born
  return {
    ...order,
    row: '0',
    status: 'SUBMITTED',
    price: null,
    currency: null,
    receivedAt: createdAt,
    updatedAt: createdAt,
  }
}
