import type { GateResult } from '../../flags/gates.ts'
import type { Pool } from '../../runtime/postgres.ts'
import { fail, notSound, pass, seconds, some, unsound } from './verdict.ts'

export interface Doubt {
  readonly orderId: string
  readonly ageMs: number
}

const named = 20

export async function readDoubts(ledger: Pool): Promise<Doubt[]> {
  const { rows } = await ledger.query<Doubt>(
    `SELECT order_id AS "orderId", (extract(epoch FROM clock_timestamp() - doubt_at) * 1000)::float8 AS "ageMs"
     FROM order_ledger WHERE state NOT IN ('delivered', 'dead', 'cancelled') AND state = 'in_doubt' AND path = 'direct'
     ORDER BY doubt_at`,
  )
  return rows
}

export function judgeInDoubt(doubts: readonly Doubt[], watermarkMs: number): GateResult {
  const gate = {
    gate: 'in-doubt',
    needed: `0 for longer than ${seconds(watermarkMs)}`,
    source: `order_ledger, state in_doubt; "strangler order <id>"`,
  } as const
  const wrong = doubts.flatMap(({ orderId, ageMs }) =>
    unsound({ [`the doubt of ${orderId}`]: ageMs }),
  )
  if (wrong.length > 0) return notSound(gate, wrong)
  const old = doubts.filter(({ ageMs }) => ageMs > watermarkMs)
  const young = doubts.length - old.length
  const measured = `${old.length} orders${young === 0 ? '' : `, ${young} in doubt just now`}`
  if (old.length === 0)
    return pass(gate, measured, 'it is known of every order whether it was sent')
  const ids = old.map(({ orderId }) => orderId)
  return fail(
    gate,
    measured,
    `it is not known whether ${some(ids, named)} was sent, the oldest for ${seconds(old[0]!.ageMs)}`,
    {
      orderIds: ids,
      unblock: 'the watch settles it by evidence: does it run, does the MES DB answer',
    },
  )
}
