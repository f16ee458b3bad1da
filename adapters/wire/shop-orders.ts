import type { Pool } from '../../runtime/postgres.ts'

/** An order as it stands in the Shop DB, with what the trigger captured of it. */
export interface ShopOrder {
  readonly orderId: string
  readonly source: string
  readonly status: string
  /** Exact decimal text; null until calculated. */
  readonly price: string | null
  /** CRM has taken it, or the trigger has claimed it. */
  readonly claimed: boolean
  /** Of the claim, and of the last change; milliseconds on the Shop DB's clock. Undefined where it never happened. */
  readonly claimedForMs: number | undefined
  readonly quietForMs: number
  /** Undefined = submitted before the trigger was there, or not submitted. */
  readonly captured: { readonly path: string; readonly relayed: boolean } | undefined
  /** Of one whose statuses are ours: somebody who is neither CRM nor we has set its status or price. */
  readonly othersWrote: boolean
}

export type ShopFilter =
  | { readonly ids: readonly string[] }
  /** A page of submitted orders in the order of their ids, after the given one. */
  | { readonly after: string | undefined; readonly limit: number }

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i
const columns = `
  SELECT o.id::text AS "orderId", o.source, o.status, o.price::text AS price, o.crm_sent_at IS NOT NULL AS claimed,
    (extract(epoch FROM clock_timestamp() - o.crm_sent_at) * 1000)::float8 AS claimed_for,
    (extract(epoch FROM clock_timestamp() - greatest(o.updated_at, b.at)) * 1000)::float8 AS "quietForMs",
    b.path, b.relayed_at IS NOT NULL AS relayed,
    EXISTS (SELECT FROM strangler.late_writes w WHERE w.order_id = o.id AND w.kept) AS "othersWrote"
  FROM public.orders o LEFT JOIN strangler.outbox b ON b.order_id = o.id`

type Row = Omit<ShopOrder, 'captured' | 'claimedForMs'> & {
  claimed_for: number | null
  path: string | null
  relayed: boolean
}

/** Reads the Shop's orders. An id that the Shop could not have given is simply not found. */
export async function readShopOrders(shop: Pool, filter: ShopFilter): Promise<ShopOrder[]> {
  const { rows } =
    'ids' in filter
      ? await shop.query<Row>(`${columns} WHERE o.id = ANY($1::uuid[])`, [
          filter.ids.filter((id) => uuid.test(id)),
        ])
      : await shop.query<Row>(
          `${columns} WHERE o.id > $1::uuid AND o.status NOT IN ('INITIATED', 'FILE_UPLOADED') ORDER BY o.id LIMIT $2`,
          [filter.after ?? '00000000-0000-0000-0000-000000000000', filter.limit],
        )
  return rows.map(({ claimed_for, path, relayed, ...order }) => ({
    ...order,
    claimedForMs: claimed_for ?? undefined,
    captured: path === null ? undefined : { path, relayed },
  }))
}

/** Gives orders back to CRM, which takes what is SUBMITTED and unclaimed. Returns those that were still waiting for it. */
export async function giveBackToCrm(shop: Pool, orderIds: readonly string[]): Promise<string[]> {
  const { rows } = await shop.query<{ id: string }>(
    `UPDATE public.orders SET crm_sent_at = NULL
     WHERE id = ANY($1::uuid[]) AND status = 'SUBMITTED' AND crm_sent_at IS NOT NULL RETURNING id::text`,
    [orderIds.filter((id) => uuid.test(id))],
  )
  return rows.map((row) => row.id)
}
