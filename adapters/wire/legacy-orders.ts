import type { Pool } from '../../runtime/postgres.ts'

/** An order whose path was decided legacy, as it stands in the Shop. */
export interface LegacyOrder {
  readonly orderId: string
  readonly epoch: number
  readonly decidedAt: Date
  /** null: the Shop does not have it any more. */
  readonly status: string | null
}

/** In the order of the decisions, after the given one. */
export async function legacyOrdersPage(
  shop: Pool,
  after: string,
  limit: number,
): Promise<{ readonly orders: readonly LegacyOrder[]; readonly last: string | undefined }> {
  const { rows } = await shop.query<LegacyOrder & { id: string }>(
    `SELECT b.id::text, b.order_id::text AS "orderId", b.epoch, b.at AS "decidedAt", o.status
     FROM strangler.outbox b LEFT JOIN public.orders o ON o.id = b.order_id
     WHERE b.id > $1::bigint AND b.path = 'legacy' ORDER BY b.id LIMIT $2`,
    [after, limit],
  )
  return {
    orders: rows.map(({ orderId, epoch, decidedAt, status }) => ({
      orderId,
      epoch,
      decidedAt,
      status,
    })),
    last: rows.at(-1)?.id,
  }
}

/** The status of each of these orders in the Shop; one that it does not have is absent. */
export async function shopStatuses(
  shop: Pool,
  orderIds: readonly string[],
): Promise<Map<string, string>> {
  const uuids = orderIds.filter((id) => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id))
  const { rows } = await shop.query<{ id: string; status: string }>(
    'SELECT id::text, status FROM public.orders WHERE id = ANY ($1::uuid[])',
    [uuids],
  )
  return new Map(rows.map(({ id, status }) => [id, status]))
}

/** The last order that CRM took up by itself. */
export async function lastTakenByCrm(
  shop: Pool,
): Promise<{ readonly orderId: string; readonly at: Date } | undefined> {
  const { rows } = await shop.query<{ orderId: string; at: Date }>(
    `SELECT o.id::text AS "orderId", o.crm_sent_at AS at
     FROM public.orders o JOIN strangler.outbox b ON b.order_id = o.id
     WHERE b.path = 'legacy' AND o.crm_sent_at IS NOT NULL ORDER BY o.crm_sent_at DESC LIMIT 1`,
  )
  return rows[0]
}
