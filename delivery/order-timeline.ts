import { StranglerError } from '../contracts/errors.ts'
import { traceIdOf } from '../contracts/order-trace.ts'
import { isOrderId, maximumOrderIdLength } from '../contracts/order.ts'
import type { DeliveryState, Path } from '../contracts/order.ts'
import type { Pool } from '../runtime/postgres.ts'
import { orderHops, redriven } from './order-hops.ts'
import type { BridgeTimes, Hop, InboxTimes, Instant, TransportTimes } from './order-hops.ts'
import { wayBack } from './way-back.ts'
import type { StatusTrip } from './way-back.ts'

/** What another system says of the order now. The port knows its formats; a source that does not answer is told, not thrown. */
export type Look<Found> = () => Promise<Found | undefined>
export type Seen<Found> =
  | { readonly source: 'read'; readonly found: Found | undefined }
  | { readonly source: 'unread'; readonly why: string }
  | { readonly source: 'not set' }

export interface OrderTimeline<InShop, InMes> {
  readonly orderId: string
  /** W3C, 32 hex digits: what traces and logs say of it. */
  readonly traceId: string
  readonly path: Path
  /** Epoch, rule, share and bucket of the decision, as it was stored at the seam. */
  readonly why: { readonly epoch: number } & Readonly<Record<string, unknown>>
  readonly state: DeliveryState
  readonly attempts: number
  readonly generation: number
  readonly owner: { readonly id: number; readonly host: string; readonly pid: number } | undefined
  readonly deadReason: unknown
  readonly hops: readonly Hop[]
  /** The sum of the hops: to the end of the last one, or to now while the order is in one. */
  readonly endToEndMs: number
  /** In the hop it is in now, so long. */
  readonly inCurrentHopMs: number | undefined
  readonly messages: readonly BridgeTimes[]
  /** The path of its statuses and the decision; undefined before its first. */
  readonly statuses:
    | {
        readonly path: Path
        readonly why: { readonly epoch: number } & Readonly<Record<string, unknown>>
      }
    | undefined
  /** Recorded changes of a path, the first first. */
  readonly handOvers: readonly HandedOver[]
  /** Each status and price that the MES told, from there to the Shop. */
  readonly wayBack: readonly StatusTrip[]
  /** What the front door saw of the order, the latest of it. */
  readonly passes: readonly {
    hop: string
    enter: Instant
    leave: Instant | undefined
    detail: unknown
  }[]
  readonly notes: readonly { at: Instant; hop: string; actor: string; detail: unknown }[]
  readonly shop: Seen<InShop>
  readonly mes: Seen<InMes>
}

export interface HandedOver {
  /** orders-direct: of the order; statuses-direct: of its statuses. */
  readonly phase: string
  readonly fromPath: Path
  readonly toPath: Path
  readonly epoch: number
  readonly who: string
  readonly why: string
  readonly at: Instant
  /** False: the Shop DB has not had its part of it. */
  readonly finished: boolean
}

export async function readHandOvers(ledger: Pool, orderId: string): Promise<HandedOver[]> {
  const { rows } = await ledger.query<HandedOver>(
    `SELECT phase, from_path AS "fromPath", to_path AS "toPath", epoch, who, why, ${ms('at')} AS at, finished_at IS NOT NULL AS finished
     FROM handover WHERE order_id = $1 ORDER BY id`,
    [orderId],
  )
  return rows
}

const latestPasses = 100

const ms = (column: string): string => `(extract(epoch FROM ${column}) * 1000)::float8`

/**
 * Everything known of one order, on the ledger's clock.
 * @throws StranglerError `not_found`, `invalid_argument`
 */
export async function orderTimeline<InShop, InMes>(
  ledger: Pool,
  orderId: string,
  looks: {
    readonly shop: Look<InShop> | undefined
    readonly mes: Look<InMes> | undefined
    /** Of an order that is not in the ledger: what the intake says of it, in words. */
    readonly intake?: Look<string> | undefined
  },
): Promise<OrderTimeline<InShop, InMes>> {
  if (!isOrderId(orderId)) {
    throw new StranglerError(
      'invalid_argument',
      `an order id has 1 to ${maximumOrderIdLength} characters, none of them a control character`,
    )
  }
  const row = await readRow(ledger, orderId)
  const [shop, mes] = await Promise.all([see(looks.shop), see(looks.mes)])
  if (row === undefined) throw notFound(orderId, shop, mes, await see(looks.intake))
  const messages = await readMessages(ledger, orderId)
  const events = await readEvents(ledger, orderId)
  const times: TransportTimes = {
    ...row,
    deliveredAt: row.deliveredAt ?? undefined,
    sendingAt: row.sendingAt ?? undefined,
  }
  const hops = orderHops(times, messages).map((hop) =>
    hop.leave === undefined ? { ...hop, ms: row.now - hop.enter } : hop,
  )
  const last = hops.at(-1)
  return {
    orderId,
    traceId: traceIdOf({ orderId, traceparent: row.traceparent }),
    path: row.path,
    why: { epoch: row.pathEpoch, ...row.pathReason },
    state: row.state,
    attempts: row.attempts,
    generation: row.gen,
    owner:
      row.ownerId === null
        ? undefined
        : { id: row.ownerId, host: row.host ?? 'unknown', pid: row.pid ?? 0 },
    deadReason: row.deadReason ?? undefined,
    hops,
    endToEndMs: (last === undefined ? row.submittedAt : (last.leave ?? row.now)) - row.submittedAt,
    inCurrentHopMs: last?.leave === undefined ? last?.ms : undefined,
    messages,
    statuses:
      row.statusPath === null
        ? undefined
        : { path: row.statusPath, why: { epoch: row.statusEpoch ?? 0, ...row.statusReason } },
    handOvers: await readHandOvers(ledger, orderId),
    wayBack: wayBack(messages),
    passes: events
      .filter((event) => event.kind === 'pass')
      .map(({ hop, at, leftAt, detail }) => ({
        hop,
        enter: at,
        leave: leftAt ?? undefined,
        detail,
      })),
    notes: events
      .filter((event) => event.kind === 'note')
      .map(({ at, hop, actor, detail }) => ({ at, hop, actor, detail })),
    shop,
    mes,
  }
}

interface LedgerRow {
  path: Path
  pathEpoch: number
  pathReason: Record<string, unknown>
  state: DeliveryState
  gen: number
  traceparent: string | null
  attempts: number
  ownerId: number | null
  host: string | null
  pid: number | null
  deadReason: unknown
  statusPath: Path | null
  statusEpoch: number | null
  statusReason: Record<string, unknown> | null
  submittedAt: Instant
  acceptedAt: Instant
  sendingAt: Instant | null
  deliveredAt: Instant | null
  now: Instant
}

async function readRow(ledger: Pool, orderId: string): Promise<LedgerRow | undefined> {
  const { rows } = await ledger.query<LedgerRow>(
    `SELECT l.path, l.path_epoch AS "pathEpoch", l.path_reason AS "pathReason", l.state, l.gen, l.traceparent, l.attempts,
       l.owner_id AS "ownerId", o.host, o.pid, l.dead_reason AS "deadReason",
       l.status_path AS "statusPath", l.status_epoch AS "statusEpoch", l.status_reason AS "statusReason",
       ${ms('l.submitted_at')} AS "submittedAt", ${ms('l.accepted_at')} AS "acceptedAt",
       ${ms('l.sending_at')} AS "sendingAt", ${ms('l.delivered_at')} AS "deliveredAt", ${ms('clock_timestamp()')} AS now
     FROM order_ledger l LEFT JOIN courier_owner o ON o.owner_id = l.owner_id WHERE l.order_id = $1`,
    [orderId],
  )
  return rows[0]
}

interface MessageRow {
  queue: string
  routingKey: string
  status: string | null
  price: string | null
  state: string
  receivedAt: Instant
  settledAt: Instant | null
  inbox: { state: string; reason: string | null; tries: number; settledAt: Instant | null } | null
}

const inbox = `CASE WHEN s.id IS NOT NULL THEN json_build_object('state', s.state, 'reason', s.reason, 'tries', s.tries, 'settledAt', ${ms('s.settled_at')}) END AS inbox`

async function readMessages(ledger: Pool, orderId: string): Promise<BridgeTimes[]> {
  // A redriven status has no message: its record names its row.
  const { rows } = await ledger.query<MessageRow>(
    `SELECT b.queue, b.routing_key AS "routingKey", coalesce(s.status, b.status) AS status, s.price, b.state,
       ${ms('b.received_at')} AS "receivedAt", ${ms('b.settled_at')} AS "settledAt", ${inbox}, b.id
     FROM bridge_inbox b LEFT JOIN status_inbox s ON s.id = b.id WHERE b.order_id = $1
     UNION ALL
     SELECT $2, $2, s.status, s.price, 'diverted', ${ms('s.received_at')}, ${ms('s.received_at')}, ${inbox}, s.id
     FROM order_event e JOIN status_inbox s ON s.id = (e.detail ->> 'statusInbox')::bigint AND s.order_id = e.order_id
     WHERE e.order_id = $1 AND e.hop = $2 AND e.detail ? 'statusInbox'
     ORDER BY "receivedAt", id`,
    [orderId, redriven],
  )
  return rows.map(
    ({ status, price, settledAt, inbox: found, queue, routingKey, state, receivedAt }) => ({
      queue,
      routingKey,
      status: status ?? undefined,
      price: price ?? undefined,
      state,
      receivedAt,
      settledAt: settledAt ?? undefined,
      inbox: found === null ? undefined : timesOf(found),
    }),
  )
}

function timesOf(found: NonNullable<MessageRow['inbox']>): InboxTimes {
  const { state, reason, tries, settledAt } = found
  return { state, reason: reason ?? undefined, tries, settledAt: settledAt ?? undefined }
}

interface EventRow {
  kind: 'pass' | 'note'
  hop: string
  actor: string
  at: Instant
  leftAt: Instant | null
  detail: unknown
}

async function readEvents(ledger: Pool, orderId: string): Promise<EventRow[]> {
  const { rows } = await ledger.query<EventRow>(
    `SELECT kind, hop, actor, ${ms('at')} AS at, ${ms('left_at')} AS "leftAt", detail
     FROM (SELECT *, row_number() OVER (PARTITION BY kind ORDER BY seq DESC) AS n FROM order_event WHERE order_id = $1) e
     -- A page that is asked for again and again must not hide what was done about the order.
     WHERE kind = 'note' OR n <= $2 ORDER BY seq`,
    [orderId, latestPasses],
  )
  return rows
}

async function see<Found>(look: Look<Found> | undefined): Promise<Seen<Found>> {
  if (look === undefined) return { source: 'not set' }
  try {
    return { source: 'read', found: await look() }
  } catch (error) {
    return { source: 'unread', why: error instanceof Error ? error.message : String(error) }
  }
}

function notFound(
  orderId: string,
  shop: Seen<unknown>,
  mes: Seen<unknown>,
  intake: Seen<string>,
): StranglerError {
  const shown = orderId.length > 80 ? `${orderId.slice(0, 77)}...` : orderId
  const known = [
    ...(shop.source === 'read' && shop.found !== undefined ? ['the Shop DB knows it'] : []),
    ...(mes.source === 'read' && mes.found !== undefined ? ['the MES holds it'] : []),
  ]
  const waits = intake.source === 'read' ? intake.found : undefined
  const hint =
    waits ??
    (known.length === 0
      ? 'neither the Shop DB nor the MES is known to have it: look at the id'
      : `${known.join(', ')}: it is not submitted, older than our trigger, or the relay is behind ("strangler reconcile" tells)`)
  return new StranglerError(
    'not_found',
    `order ${shown} is not in the ledger${waits === undefined ? '' : ' yet'}; ${hint}`,
  )
}
