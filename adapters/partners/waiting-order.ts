import type { Pool } from '../../runtime/postgres.ts'

/** Of an order that the intake has accepted and its relay has not taken yet: since when, and behind how many of its partner. */
export async function waitingInIntake(intake: Pool, orderId: string): Promise<string | undefined> {
  const { rows } = await intake.query<{ at: Date; ahead: number; relayedAt: Date | null }>(
    `SELECT b.at, (SELECT count(*)::int FROM outbox a WHERE a.partner = b.partner AND a.relayed_at IS NULL AND a.id < b.id) AS ahead,
       (SELECT max(relayed_at) FROM outbox) AS "relayedAt"
     FROM outbox b WHERE b.order_id = CASE WHEN $1 ~* '^[0-9a-f-]{36}$' THEN $1::uuid END AND b.relayed_at IS NULL`,
    [orderId],
  )
  const [order] = rows
  if (order === undefined) return undefined
  const { at, ahead, relayedAt } = order
  const last =
    relayedAt === null ? 'has taken none yet' : `took its last at ${relayedAt.toISOString()}`
  return `the intake accepted it at ${at.toISOString()}, and ${ahead} orders of its partner go before it; the intake's relay ${last} (PARTNER_ORDERS_PER_MINUTE)`
}
