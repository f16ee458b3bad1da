import { isDeepStrictEqual } from 'node:util'

import type { Client, Pool } from '../runtime/postgres.ts'
import { inTransaction } from '../runtime/postgres.ts'
import {
  isTold,
  keysToTell,
  priceKey,
  samePrice,
  statusKey,
  whatShopLacks,
} from './compare-progress.ts'
import type { StatusRemedy } from './difference.ts'
import type { MesSide, ShopSide } from './order-sides.ts'
import { repinPhase } from './repin-statuses.ts'

/** What telling a status again needs of the world outside the ledger. */
export interface StatusPorts {
  /** The legacy queue from the MES to CRM. */
  readonly eventsQueue: string
  /** 'no' only on proof that no queue on the way to CRM holds a message of the order. */
  mayBeUnderwayToCrm(orderId: string): Promise<'no' | 'maybe'>
  /** The two rows as they are now. */
  now(
    orderId: string,
  ): Promise<{ readonly shop: ShopSide | undefined; readonly mes: MesSide | undefined }>
  /** What a message of the MES says. */
  readEvent(
    routingKey: string,
    body: Buffer,
  ): { readonly status: string | undefined; readonly price: string | undefined }
}

export type StatusRedriven =
  | 'done'
  | 'may be under way'
  | 'changed meanwhile'
  | 'left to a person: no message on record says what the MES says'
  | 'refused: without its bridge inserted nobody sends it'

interface Act {
  readonly orderId: string
  readonly remedy: StatusRemedy
  readonly says: string
  readonly who: string
}

/** Brings the Shop up to what the MES has, through the inbox or through CRM, by what both say at this moment. */
export async function redriveStatus(
  ledger: Pool,
  ports: StatusPorts,
  act: Act,
): Promise<StatusRedriven> {
  const { orderId, remedy } = act
  if (remedy.act === 'tell CRM again') {
    if (!(await isInserted(ledger, ports.eventsQueue)))
      return 'refused: without its bridge inserted nobody sends it'
    // CRM writes what it is told as it comes: a message that waits for it would undo what follows.
    if ((await ports.mayBeUnderwayToCrm(orderId)) !== 'no') return 'may be under way'
  }
  const { shop, mes } = await ports.now(orderId)
  if (shop === undefined || mes === undefined || shop.othersWrote) return 'changed meanwhile'
  if (!isDeepStrictEqual(whatShopLacks(shop, mes), remedy.lacks)) return 'changed meanwhile'
  return inTransaction(ledger, async (client) => {
    // Two people at once: the second sees what the first has done.
    const pinned = await client.query(
      `SELECT FROM order_ledger l WHERE order_id = $1 AND status_path = $2 AND NOT EXISTS (
         SELECT FROM handover h WHERE h.order_id = l.order_id AND h.finished_at IS NULL AND h.phase = $3) FOR UPDATE`,
      [orderId, remedy.act === 'tell the Shop' ? 'direct' : 'legacy', repinPhase],
    )
    if (pinned.rowCount !== 1) return 'changed meanwhile'
    return remedy.act === 'tell the Shop'
      ? tellShop(client, act, remedy)
      : tellCrm(client, ports, act, remedy, mes)
  })
}

/** As if the MES had told it just now: the applier takes it, by the same rules. */
async function tellShop(
  client: Client,
  act: Act,
  { lacks }: StatusRemedy,
): Promise<StatusRedriven> {
  const { rows } = await client.query<{ id: string }>(
    `INSERT INTO status_inbox (id, order_id, status, price, currency, received_at, reason)
     SELECT nextval('bridge_inbox_id_seq'), $1, $2, $3, $4, clock_timestamp(), 'redriven'
     WHERE NOT EXISTS (SELECT FROM status_inbox WHERE order_id = $1 AND state IN ('open', 'waiting'))
       AND NOT EXISTS (SELECT FROM status_inbox WHERE order_id = $1 AND state = 'parked')
     RETURNING id::text`,
    [act.orderId, lacks.status ?? null, lacks.price ?? null, lacks.currency ?? null],
  )
  const [row] = rows
  if (row === undefined) return 'changed meanwhile'
  await record(client, act, 'nothing of it waited, and the MES has it', { statusInbox: row.id })
  return 'done'
}

interface Message {
  id: string
  routing_key: string
  state: string
  body: Buffer
}

/** The last messages that say what the MES says, in their order; the last of them sets the status that the MES has. */
async function tellCrm(
  client: Client,
  ports: StatusPorts,
  act: Act,
  { status, lacks }: StatusRemedy & { act: 'tell CRM again' },
  mes: MesSide,
): Promise<StatusRedriven> {
  const { rows } = await client.query<Message>(
    `SELECT DISTINCT ON (routing_key) id, routing_key, state, body FROM bridge_inbox
     WHERE queue = $1 AND order_id = $2 AND routing_key = ANY($3::text[]) ORDER BY routing_key, id DESC`,
    [ports.eventsQueue, act.orderId, [priceKey, statusKey]],
  )
  if (rows.some(({ state }) => !isTold(state))) return 'may be under way'
  const needed = keysToTell(status, lacks).flatMap(
    (key) => rows.find((row) => row.routing_key === key) ?? [],
  )
  const saysSo = needed.every(({ routing_key: key, body }) => {
    const told = ports.readEvent(key, body)
    return key === priceKey
      ? told.price !== undefined && samePrice(told.price, mes.price)
      : told.status === status
  })
  const inOrder = needed.every(
    ({ id }, index) => index === 0 || BigInt(needed[index - 1]!.id) < BigInt(id),
  )
  if (needed.length < keysToTell(status, lacks).length || !saysSo || !inOrder)
    return 'left to a person: no message on record says what the MES says'
  const ids = needed.map(({ id }) => id)
  const held = await client.query(
    `UPDATE bridge_inbox SET state = 'held', reason = 'told again: it is not in the Shop DB', settled_at = NULL
     WHERE id = ANY($1::bigint[]) AND state IN ('forwarded', 'diverted')`,
    [ids],
  )
  if (held.rowCount !== ids.length) {
    await client.query('ROLLBACK')
    return 'changed meanwhile'
  }
  await record(client, act, 'no queue held it, and its messages say what the MES has', {
    held: ids,
  })
  return 'done'
}

async function record(
  client: Client,
  { orderId, remedy, says, who }: Act,
  evidence: string,
  rows: Readonly<Record<string, unknown>>,
): Promise<void> {
  await client.query(
    `INSERT INTO order_event (order_id, hop, kind, actor, detail) VALUES ($1, 'redrive', 'note', $2, $3)`,
    [
      orderId,
      who,
      JSON.stringify({ act: remedy.act, found: says, lacked: remedy.lacks, evidence, ...rows }),
    ],
  )
}

async function isInserted(ledger: Pool, queue: string): Promise<boolean> {
  const { rowCount } = await ledger.query(
    `SELECT FROM bridge WHERE queue = $1 AND state = 'inserted'`,
    [queue],
  )
  return rowCount === 1
}
