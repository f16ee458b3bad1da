import type { GateResult } from '../../flags/gates.ts'
import type { Pool } from '../../runtime/postgres.ts'
import { fail, notSound, pass, some, unsound } from './verdict.ts'

const kinds = ['dead order', 'parked message', 'parked status'] as const

export interface DeadLetter {
  readonly kind: (typeof kinds)[number]
  /** Of its row at the bridge or in the status inbox; of an order its own. */
  readonly id: string
  readonly orderId: string | null
  readonly reason: string | null
}

export interface DeadLetters {
  readonly counts: Readonly<Record<DeadLetter['kind'], number>>
  /** The oldest of each kind. */
  readonly first: readonly DeadLetter[]
}

const named = 20

export async function readDeadLetters(ledger: Pool): Promise<DeadLetters> {
  const { rows } = await ledger.query<DeadLetter & { kindCount: number }>(
    `(SELECT 'dead order' AS kind, order_id AS id, order_id AS "orderId",
        coalesce(dead_reason ->> 'code', 'no reason') AS reason, count(*) OVER ()::int AS "kindCount"
      FROM order_ledger WHERE state = 'dead' ORDER BY accepted_at LIMIT $1)
     UNION ALL
     (SELECT 'parked message', id::text, order_id, concat_ws(' ', queue, routing_key || ':', coalesce(reason, 'no reason')), count(*) OVER ()::int
      FROM bridge_inbox WHERE state IN ('received', 'held', 'parked') AND state = 'parked' ORDER BY bridge_inbox.id LIMIT $1)
     UNION ALL
     (SELECT 'parked status', id::text, order_id, concat_ws(': ', status, coalesce(reason, 'no reason')), count(*) OVER ()::int
      FROM status_inbox WHERE state = 'parked' ORDER BY status_inbox.id LIMIT $1)`,
    [named],
  )
  const count = (kind: DeadLetter['kind']): number =>
    rows.find((row) => row.kind === kind)?.kindCount ?? 0
  return {
    counts: {
      'dead order': count('dead order'),
      'parked message': count('parked message'),
      'parked status': count('parked status'),
    },
    first: rows.map(({ kind, id, orderId, reason }) => ({ kind, id, orderId, reason })),
  }
}

export function judgeDeadLetters({ counts, first }: DeadLetters): GateResult {
  const gate = {
    gate: 'dead-letters',
    needed: '0',
    source: `order_ledger, state dead; bridge_inbox and status_inbox, state parked`,
  } as const
  const wrong = unsound(counts)
  if (wrong.length > 0) return notSound(gate, wrong)
  const measured = kinds
    .map((kind) => `${counts[kind]} ${kind}${counts[kind] === 1 ? '' : plural(kind)}`)
    .join(', ')
  if (kinds.every((kind) => counts[kind] === 0))
    return pass(gate, measured, 'nothing is parked or refused for good')
  const words = first.map(({ kind, id, orderId, reason }) => {
    const of = orderId === null || orderId === id ? '' : ` of order ${orderId}`
    return `${kind} ${id}${of} (${reason ?? 'no reason'})`
  })
  return fail(gate, measured, some(words, named), {
    orderIds: first.flatMap(({ orderId }) => orderId ?? []),
    unblock:
      '"strangler reconcile --redrive" for orders, "strangler statuses" for statuses, "strangler bridge" for messages',
  })
}

function plural(kind: DeadLetter['kind']): string {
  return kind.endsWith('status') ? 'es' : 's'
}
