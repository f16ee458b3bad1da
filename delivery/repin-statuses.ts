import type { Path } from '../contracts/order.ts'
import { judgeStatuses } from '../contracts/status-rules.ts'
import type { OrderStatusRow, StatusEvent, Verdict } from '../contracts/status-rules.ts'
import { inTransaction } from '../runtime/postgres.ts'
import type { Client, Pool } from '../runtime/postgres.ts'
import { statusKey } from './compare-progress.ts'
import { ownPins } from './status-pins.ts'

/*
 * A repin gives the statuses of an order to the other path, recorded like the hand-over of an order (hand-over.ts):
 *
 *   ledger: pin and epoch of the row, its hand-over record      one commit: the applier has nothing of the order any more, and
 *                                                               the bridge holds what the MES tells of it from now on
 *   Shop:   the fence is lowered, or raised, under that epoch   from here an applier of an earlier epoch changes nothing
 *   ledger: the record is finished                              and in that commit what waited goes to CRM, before what is held
 *
 * A crash between any two is ended by the next run, of anybody: an unfinished record is carried on.
 */

export const repinPhase = 'statuses-direct'

/** Orders of this path of which the last status of the MES is still to come, or to be settled. */
export const statusesToCome: Readonly<Record<Path, string>> = {
  direct: `l.status_path = 'direct' AND NOT EXISTS (
    SELECT FROM status_inbox s WHERE s.order_id = l.order_id AND s.status = 'SHIPPED' AND s.state NOT IN ('open', 'waiting', 'parked'))`,
  legacy: `l.status_path = 'legacy' AND NOT EXISTS (
    SELECT FROM bridge_inbox b WHERE b.order_id = l.order_id AND b.routing_key = '${statusKey}' AND b.status = 'SHIPPED'
      AND b.state NOT IN ('received', 'held', 'parked'))`,
}

export interface RepinAct {
  readonly to: Path
  readonly who: string
  readonly why: string
}

/** Why an order stays where it is for now. parked: until a person has decided. The others pass. */
export interface NotYet {
  readonly orderId: string
  readonly because: 'parked' | 'open' | 'in hand' | 'under way to CRM'
  readonly says: string
}

export interface Repinned {
  readonly moved: readonly string[]
  readonly notYet: readonly NotYet[]
}

/** A record whose Shop part may be open. */
export interface UnfinishedRepin {
  readonly id: string
  readonly orderId: string
  readonly to: Path
  readonly epoch: number
}

/** A page in the order of their ids. */
export async function listToCome(
  ledger: Pool,
  path: Path,
  after: string | undefined,
  limit: number,
): Promise<string[]> {
  const { rows } = await ledger.query<{ order_id: string }>(
    `SELECT l.order_id FROM order_ledger l
     WHERE ${statusesToCome[path]} AND l.order_id > $1 ORDER BY l.order_id LIMIT $2`,
    [after ?? '', limit],
  )
  return rows.map((row) => row.order_id)
}

export interface Pinned {
  /** null: it has had no status. */
  readonly path: Path | null
  readonly toCome: boolean
}

export async function readPin(ledger: Pool, orderId: string): Promise<Pinned | undefined> {
  const { rows } = await ledger.query<Pinned>(
    `SELECT l.status_path AS path, (${statusesToCome.direct}) OR (${statusesToCome.legacy}) AS "toCome" FROM order_ledger l WHERE l.order_id = $1`,
    [orderId],
  )
  return rows[0]
}

interface Locked {
  order_id: string
}

/** Of orders that are still on the other path; one that somebody has in hand is passed over, and told. */
async function lockOrders(
  client: Client,
  from: Path,
  orderIds: readonly string[],
): Promise<{ locked: Set<string>; notYet: NotYet[] }> {
  const { rows } = await client.query<Locked>(
    `SELECT order_id FROM order_ledger l WHERE order_id = ANY($1::text[]) AND status_path = $2
       AND NOT EXISTS (SELECT FROM handover h WHERE h.order_id = l.order_id AND h.finished_at IS NULL AND h.phase = $3)
     ORDER BY order_id FOR UPDATE SKIP LOCKED`,
    [orderIds, from, repinPhase],
  )
  const locked = new Set(rows.map((row) => row.order_id))
  const { rows: all } = await client.query<Locked>(
    'SELECT order_id FROM order_ledger WHERE order_id = ANY($1::text[]) AND status_path = $2',
    [orderIds, from],
  )
  const notYet = all
    .filter(({ order_id: id }) => !locked.has(id))
    .map(({ order_id: orderId }) => ({
      orderId,
      because: 'in hand' as const,
      says: 'its row in the ledger is being changed',
    }))
  return { locked, notYet }
}

async function pinAnew(client: Client, act: RepinAct, evidence: ReadonlyMap<string, object>) {
  await client.query(
    `WITH taken AS (
       UPDATE order_ledger l SET status_path = $1, status_epoch = l.status_epoch + 1,
         status_reason = jsonb_build_object('rule', 'repinned', 'why', $3::text, 'before', l.status_reason)
       FROM unnest($5::text[], $6::jsonb[]) AS t(order_id, evidence) WHERE l.order_id = t.order_id
       RETURNING l.order_id, l.status_epoch, t.evidence)
     INSERT INTO handover (order_id, from_path, to_path, epoch, who, why, evidence, phase)
     SELECT order_id, CASE $1 WHEN 'legacy' THEN 'direct' ELSE 'legacy' END, $1, status_epoch, $2, $3, evidence, $4 FROM taken`,
    [act.to, act.who, act.why, repinPhase, [...evidence.keys()], [...evidence.values()]],
  )
}

interface Unsettled {
  id: string
  order_id: string
  state: string
}

/**
 * The first step to legacy. Only of orders of which nothing can be applied any more: an applier takes what is open, by its rules, so
 * that CRM is never told what the Shop has already. What waits for something outside is CRM's from here on.
 */
export async function pinLegacy(
  ledger: Pool,
  act: RepinAct,
  orderIds: readonly string[],
): Promise<Repinned> {
  if (orderIds.length === 0) return { moved: [], notYet: [] }
  return inTransaction(ledger, async (client) => {
    await ownPins(client)
    const { locked: direct, notYet } = await lockOrders(client, 'direct', orderIds)
    const select = `SELECT id::text, order_id, state FROM status_inbox WHERE order_id = ANY($1::text[])`
    const waiting = `${select} AND state IN ('open', 'waiting') ORDER BY order_id, status_inbox.id`
    const seen = await client.query<Unsettled>(
      `(${waiting}) UNION ALL ${select} AND state = 'parked'`,
      [[...direct]],
    )
    // An applier that has them in hand may just be writing them.
    const held = await client.query<Unsettled>(`${waiting} FOR UPDATE SKIP LOCKED`, [[...direct]])
    const unsettled = Map.groupBy(seen.rows, (row) => row.order_id)
    const locked = Map.groupBy(held.rows, (row) => row.order_id)
    const ready = new Map<string, { readonly waited: readonly string[] }>()
    for (const orderId of direct) {
      const rows = unsettled.get(orderId) ?? []
      const ours = locked.get(orderId) ?? []
      const obstacle = obstacleOf(rows, ours)
      if (obstacle === undefined) ready.set(orderId, { waited: ours.map(({ id }) => id) })
      else notYet.push({ orderId, ...obstacle })
    }
    await pinAnew(client, act, ready)
    await client.query(
      `UPDATE status_inbox SET state = 'handed over', reason = 'repinned', who = $2, settled_at = clock_timestamp()
       WHERE id = ANY($1::bigint[])`,
      [[...ready.values()].flatMap(({ waited }) => waited), act.who],
    )
    return { moved: [...ready.keys()], notYet }
  })
}

function obstacleOf(
  rows: readonly Unsettled[],
  locked: readonly Unsettled[],
): Omit<NotYet, 'orderId'> | undefined {
  const parked = rows.find(({ state }) => state === 'parked')
  if (parked !== undefined) {
    return {
      because: 'parked',
      says: `its status ${parked.id} is parked: "strangler statuses accept|drop ${parked.id}" first`,
    }
  }
  const open = [...rows, ...locked].find(({ state }) => state === 'open')
  if (open !== undefined)
    return { because: 'open', says: `its status ${open.id} is not applied yet: is an applier up?` }
  if (rows.length !== locked.length)
    return { because: 'in hand', says: 'an applier has a status of it in hand' }
  return undefined
}

/** Of each order, the last status that the bridge had of it. */
export type LastSeen = ReadonlyMap<string, string>

/** `queue` is the legacy queue to CRM. An order of which something is still to be forwarded is not in it. */
export async function lastForwarded(
  ledger: Pool | Client,
  queue: string,
  orderIds: readonly string[],
): Promise<LastSeen> {
  const { rows } = await ledger.query<{ order_id: string; last: string }>(
    `SELECT o.id AS order_id, coalesce(max(b.id), 0)::text AS last FROM unnest($2::text[]) o(id)
     LEFT JOIN bridge_inbox b ON b.order_id = o.id AND b.queue || '' = $1
     GROUP BY o.id HAVING NOT coalesce(bool_or(b.state IN ('received', 'held', 'parked')), false)`,
    [queue, orderIds],
  )
  return new Map(rows.map(({ order_id: id, last }) => [id, last]))
}

/**
 * The first step to direct: of orders of which CRM has nothing more to write. `proved` is what the bridge had forwarded before the
 * queue to CRM was seen without them; what came since may be on its way.
 */
export async function pinDirect(
  ledger: Pool,
  act: RepinAct & { readonly queue: string },
  proved: LastSeen,
): Promise<Repinned & { readonly bridge: 'inserted' | 'not inserted' }> {
  return inTransaction(ledger, async (client) => {
    await ownPins(client)
    // Whoever inserts or removes the bridge has this lock; without it their statuses would pass us by.
    const { rows: bridges } = await client.query<{ state: string }>(
      `SELECT state FROM bridge WHERE queue = $1 AND pg_try_advisory_xact_lock_shared(46, hashtext($1))`,
      [act.queue],
    )
    if (bridges[0]?.state !== 'inserted') return { moved: [], notYet: [], bridge: 'not inserted' }
    const { locked: legacy, notYet } = await lockOrders(client, 'legacy', [...proved.keys()])
    const now = await lastForwarded(client, act.queue, [...legacy])
    const ready = new Map<string, object>()
    for (const orderId of legacy) {
      if (now.get(orderId) === proved.get(orderId))
        ready.set(orderId, { lastForwarded: proved.get(orderId) })
      else notYet.push(underWay(orderId))
    }
    await pinAnew(client, act, ready)
    return { moved: [...ready.keys()], notYet, bridge: 'inserted' }
  })
}

export function underWay(orderId: string): NotYet {
  const says = 'a status of it may be on its way to CRM, which would be kept from writing it'
  return { orderId, because: 'under way to CRM', says }
}

/** The oldest first; of an order there is one at most. */
export async function listUnfinished(ledger: Pool, limit: number): Promise<UnfinishedRepin[]> {
  const { rows } = await ledger.query<UnfinishedRepin>(
    `SELECT id::text, order_id AS "orderId", to_path AS "to", epoch FROM handover
     WHERE finished_at IS NULL AND phase = $1 ORDER BY handover.id LIMIT $2`,
    [repinPhase, limit],
  )
  return rows
}

interface HandedOver {
  id: string
  order_id: string
  status: string | null
  price: string | null
  currency: string | null
  at_bridge: boolean
}

/**
 * The last step, when the Shop DB lets CRM in again, or keeps it off. `shop` is what it had of the orders after that. What an applier
 * wrote there and died before it could say so is not told to CRM, who would write it over what came since. Returns how many
 * statuses CRM gets.
 */
export async function finishRepins(
  ledger: Pool,
  records: readonly UnfinishedRepin[],
  shop: ReadonlyMap<string, OrderStatusRow>,
): Promise<{ finished: number; toCrm: number }> {
  if (records.length === 0) return { finished: 0, toCrm: 0 }
  return inTransaction(ledger, async (client) => {
    await client.query(
      `SET LOCAL lock_timeout = '10s'; SET LOCAL idle_in_transaction_session_timeout = '5s'`,
    )
    // Two at once: the second sees what the first has finished.
    const { rows: mine } = await client.query<{ id: string; order_id: string; to_path: Path }>(
      `SELECT id::text, order_id, to_path FROM handover WHERE id = ANY($1::bigint[]) AND finished_at IS NULL
       ORDER BY handover.id FOR UPDATE`,
      [records.map(({ id }) => id)],
    )
    const { rows } = await client.query<HandedOver>(
      `SELECT s.id::text, s.order_id, s.status, s.price, s.currency, b.id IS NOT NULL AS at_bridge
       FROM status_inbox s LEFT JOIN bridge_inbox b ON b.id = s.id
       WHERE s.order_id = ANY($1::text[]) AND s.state = 'handed over' AND coalesce(b.state, 'diverted') = 'diverted'
       ORDER BY s.order_id, s.id`,
      [mine.filter((each) => each.to_path === 'legacy').map((each) => each.order_id)],
    )
    const toCrm: string[] = []
    const settled: (Verdict & { id: number })[] = []
    for (const [orderId, events] of Map.groupBy(rows, (row) => row.order_id)) {
      const row = shop.get(orderId)
      const { verdicts } = row === undefined ? none : judgeStatuses(row, events.map(eventOf))
      for (const { id, at_bridge: atBridge } of events) {
        const verdict = verdicts.get(Number(id))
        if (verdict?.state === 'superseded' || verdict?.state === 'backward')
          settled.push({ id: Number(id), ...verdict })
        else if (atBridge) toCrm.push(id)
        // Told by a redrive, not by a message: what the Shop lacks, `reconcile --redrive` finds again.
        else settled.push({ id: Number(id), state: 'superseded', reason: 'repinned' })
      }
    }
    await client.query(
      `UPDATE status_inbox s SET state = v.state, reason = v.reason
       FROM unnest($1::bigint[], $2::text[], $3::text[]) AS v(id, state, reason) WHERE s.id = v.id`,
      [
        settled.map(({ id }) => id),
        settled.map(({ state }) => state),
        settled.map(({ reason }) => reason ?? null),
      ],
    )
    await client.query(
      `UPDATE bridge_inbox SET state = 'held', reason = 'handed over to CRM', settled_at = NULL
       WHERE id = ANY($1::bigint[]) AND state = 'diverted'`,
      [toCrm],
    )
    await client.query(
      'UPDATE handover SET finished_at = clock_timestamp() WHERE id = ANY($1::bigint[])',
      [mine.map(({ id }) => id)],
    )
    return { finished: mine.length, toCrm: toCrm.length }
  })
}

const none: { readonly verdicts: ReadonlyMap<number, Verdict> } = { verdicts: new Map() }

function eventOf({ id, status, price, currency }: HandedOver): StatusEvent {
  return {
    id: Number(id),
    status: status ?? undefined,
    price: price ?? undefined,
    currency: currency ?? undefined,
    accepted: false,
  }
}
