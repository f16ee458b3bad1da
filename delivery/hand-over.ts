import { inTransaction } from '../runtime/postgres.ts'
import type { Pool } from '../runtime/postgres.ts'
import { acceptOrders } from './accept-orders.ts'
import type { AcceptedOrder } from './accept-orders.ts'

/*
 * A hand-over gives an order that was decided `direct`, and that nobody has begun to send, to the legacy path: with the same
 * identity, and recorded.
 *
 *   ledger: path and epoch of the row, its hand-over record     one commit: no courier can claim it, no relay bring it, any more
 *   Shop:   path of the outbox row, the claim lifted            one commit, and only while the outbox row still says `direct`
 *   ledger: the record is finished
 *
 * A crash between any two is ended by the next run: an unfinished record is carried on, and the condition in the Shop DB makes
 * the second step happen once, however often it is said.
 */

/** On the direct path, by what is known of them. */
export interface DirectOrders {
  /** Nobody has begun to send it: can be handed over. */
  readonly accepted: number
  /** A courier holds it. */
  readonly sending: number
  readonly inDoubt: readonly string[]
}

const named = 100

/** Whose orders: each channel has epochs of its own. */
export type Channel = 'shop' | 'partners'

/** Those that were decided before this epoch. */
export async function countDirect(
  ledger: Pool,
  channel: Channel,
  epoch: number,
): Promise<DirectOrders> {
  const { rows } = await ledger.query<{ accepted: number; sending: number; in_doubt: string[] }>(
    `SELECT count(*) FILTER (WHERE state = 'accepted')::int AS accepted, count(*) FILTER (WHERE state = 'sending')::int AS sending,
       coalesce((array_agg(order_id ORDER BY doubt_at) FILTER (WHERE state = 'in_doubt'))[:$1], '{}') AS in_doubt
     FROM order_ledger WHERE path = 'direct' AND (origin = 'shop') = $3 AND path_epoch < $2
       AND state NOT IN ('delivered', 'dead', 'cancelled')`,
    [named, epoch, channel === 'shop'],
  )
  const { accepted, sending, in_doubt: inDoubt } = rows[0]!
  return { accepted, sending, inDoubt }
}

export interface HandOverAct {
  readonly phase: string
  readonly epoch: number
  readonly who: string
  readonly why: string
}

const record = `
  INSERT INTO handover (order_id, from_path, to_path, epoch, who, why, evidence, phase)
  SELECT order_id, 'direct', 'legacy', $1, $2, $3, evidence, $4 FROM taken
  ON CONFLICT ON CONSTRAINT one_hand_over_per_epoch DO NOTHING`

/** Orders that a courier could claim, of what was decided before this epoch; a page in the order of their ids. */
export async function listAccepted(
  ledger: Pool,
  epoch: number,
  after: string | undefined,
  limit: number,
): Promise<string[]> {
  const { rows } = await ledger.query<{ order_id: string }>(
    `SELECT order_id FROM order_ledger
     WHERE state = 'accepted' AND path = 'direct' AND origin = 'shop' AND path_epoch < $1 AND order_id > $2 ORDER BY order_id LIMIT $3`,
    [epoch, after ?? '', limit],
  )
  return rows.map((row) => row.order_id)
}

/** Takes these orders away from the couriers, each with its record, but those that one has claimed meanwhile. Returns how many. */
export async function takeFromCouriers(
  ledger: Pool,
  act: HandOverAct,
  orderIds: readonly string[],
): Promise<number> {
  if (orderIds.length === 0) return 0
  return inTransaction(ledger, async (client) => {
    const { rowCount } = await client.query(
      `WITH next AS (
         SELECT order_id FROM order_ledger WHERE order_id = ANY($5::text[]) AND state || '' = 'accepted' AND path = 'direct'
         FOR UPDATE SKIP LOCKED),
       taken AS (
         UPDATE order_ledger l SET path = 'legacy', path_epoch = $1, gen = gen + 1,
           path_reason = jsonb_build_object('rule', 'handed over', 'why', $3::text, 'before', l.path_reason)
         FROM next WHERE l.order_id = next.order_id
         RETURNING l.order_id, jsonb_build_object('state', 'accepted', 'gen', l.gen, 'attempts', l.attempts) AS evidence)
       ${record}`,
      [act.epoch, act.who, act.why, act.phase, orderIds],
    )
    return rowCount ?? 0
  })
}

/**
 * Takes orders that the ledger does not know yet: their rows are made here, on the legacy path, each with its record. The row's key
 * is the fence: a relay that is slow, or was frozen, comes too late with its own. Returns how many; one that a relay has brought
 * meanwhile is the couriers' to lose.
 */
export async function takeFromRelay(
  ledger: Pool,
  act: HandOverAct,
  orders: readonly AcceptedOrder[],
): Promise<number> {
  if (orders.length === 0) return 0
  return inTransaction(ledger, async (client) => {
    const taken = await acceptOrders(
      client,
      orders.map((order) => ({
        ...order,
        path: 'legacy' as const,
        pathEpoch: act.epoch,
        pathReason: { rule: 'handed over', why: act.why, before: order.pathReason },
      })),
    )
    await client.query(
      `WITH taken AS (SELECT order_id, '{"state": "in the outbox"}'::jsonb AS evidence FROM unnest($5::text[]) AS o(order_id)) ${record}`,
      [act.epoch, act.who, act.why, act.phase, taken.map(({ orderId }) => orderId)],
    )
    return taken.length
  })
}

export async function unfinishedHandOvers(
  ledger: Pool,
  phase: string,
  limit: number,
): Promise<string[]> {
  const { rows } = await ledger.query<{ order_id: string }>(
    'SELECT order_id FROM handover WHERE finished_at IS NULL AND phase = $1 ORDER BY id LIMIT $2',
    [phase, limit],
  )
  return rows.map((row) => row.order_id)
}

export async function finishHandOvers(
  ledger: Pool,
  phase: string,
  orderIds: readonly string[],
): Promise<void> {
  await ledger.query(
    `UPDATE handover SET finished_at = clock_timestamp() WHERE order_id = ANY($1::text[]) AND phase = $2 AND finished_at IS NULL`,
    [orderIds, phase],
  )
}

/** What a rollback did, from the ledger alone, so that a second run tells the same. */
export async function countSince(
  ledger: Pool,
  channel: Channel,
  flip: { readonly epoch: number; readonly phase: string; readonly at: Date },
): Promise<{ delivered: number; handedOver: number; settled: number }> {
  const { rows } = await ledger.query<{ delivered: number; handedOver: number; settled: number }>(
    `SELECT
       (SELECT count(*)::int FROM order_ledger WHERE path = 'direct' AND (origin = 'shop') = $4 AND delivered_at >= $3) AS delivered,
       (SELECT count(*)::int FROM handover WHERE phase = $1 AND epoch = $2) AS "handedOver",
       (SELECT count(DISTINCT e.order_id)::int FROM order_event e JOIN order_ledger l ON l.order_id = e.order_id AND (l.origin = 'shop') = $4
         WHERE e.at >= $3 AND e.hop = 'in doubt' AND e.detail ? 'settled') AS settled`,
    [flip.phase, flip.epoch, flip.at, channel === 'shop'],
  )
  return rows[0]!
}
