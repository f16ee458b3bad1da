import { StranglerError } from '../contracts/errors.ts'
import type { Pool } from '../runtime/postgres.ts'
import { inTransaction } from '../runtime/postgres.ts'

/** accepted: it is applied whatever the rules say. dropped: it never is. */
export type StatusDecision = 'accepted' | 'dropped'

export interface DecidedStatus {
  readonly id: string
  readonly orderId: string
  readonly decision: StatusDecision
  readonly status: string | undefined
  readonly price: string | undefined
  /** What had kept it. */
  readonly reason: string | undefined
}

interface Row {
  order_id: string
  state: string
  status: string | null
  price: string | null
  reason: string | null
}

const change = {
  accepted: `state = 'open', accepted = true, reason = NULL, who = $2, next_try_at = clock_timestamp()`,
  dropped: `state = 'dropped', who = $2, settled_at = clock_timestamp()`,
} as const

/** No rule keeps these: there is nothing in them that the Shop's database could store. */
const nothingToApply: readonly (string | null)[] = [
  'unknown_status',
  'price_unreadable',
  'no_status',
]

/**
 * A person's word on a status that waits or is parked, with its record in the same transaction.
 * @throws StranglerError `not_found`, `refused`
 */
export async function decideStatus(
  ledger: Pool,
  act: {
    readonly id: string
    readonly decision: StatusDecision
    readonly who: string
    readonly why: string
  },
): Promise<DecidedStatus> {
  const { id, decision, who, why } = act
  return inTransaction(ledger, async (client) => {
    // An applier that has it in hand is waited for: then it may be settled.
    const { rows } = await client.query<Row>(
      'SELECT order_id, state, status, price, reason FROM status_inbox WHERE id = $1 FOR UPDATE',
      [id],
    )
    const [row] = rows
    if (row === undefined) {
      throw new StranglerError(
        'not_found',
        `the status inbox has no ${id}; "strangler statuses" lists the ids that wait or are parked`,
      )
    }
    if (row.state !== 'waiting' && row.state !== 'parked') {
      throw new StranglerError(
        'refused',
        `${id} is ${row.state}, only what waits or is parked can be ${decision}; ` +
          `"strangler order ${row.order_id}" shows what became of it`,
      )
    }
    if (decision === 'accepted' && row.state === 'parked' && nothingToApply.includes(row.reason)) {
      throw new StranglerError(
        'refused',
        `${id} has nothing that could be applied (${row.reason}); drop it, and "strangler reconcile --redrive" ` +
          'brings the Shop up to what the MES has',
      )
    }
    await client.query(`UPDATE status_inbox SET ${change[decision]} WHERE id = $1`, [id, who])
    await client.query(
      `INSERT INTO order_event (order_id, hop, kind, actor, detail) VALUES ($1, 'status inbox', 'note', $2, $3)`,
      [
        row.order_id,
        who,
        JSON.stringify({
          [decision]: id,
          status: row.status,
          price: row.price,
          was: row.reason ?? row.state,
          why,
        }),
      ],
    )
    return {
      id,
      orderId: row.order_id,
      decision,
      status: row.status ?? undefined,
      price: row.price ?? undefined,
      reason: row.reason ?? undefined,
    }
  })
}
