import type { ModelReference } from '../../delivery/model-store.ts'
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
  readonly captured:
    | { readonly path: string; readonly relayed: boolean; readonly at: Date }
    | undefined
  /** Of one whose statuses are ours: somebody who is neither CRM nor we has set its status or price. */
  readonly othersWrote: boolean
  readonly model: ModelReference | undefined
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
    b.path, b.relayed_at IS NOT NULL AS relayed, b.at, o.model_key, o.model_bytes::float8 AS model_bytes,
    EXISTS (SELECT FROM strangler.late_writes w WHERE w.order_id = o.id AND w.kept) AS "othersWrote"
  FROM public.orders o LEFT JOIN strangler.outbox b ON b.order_id = o.id`

type Row = Omit<ShopOrder, 'captured' | 'claimedForMs' | 'model'> & {
  claimed_for: number | null
  path: string | null
  relayed: boolean
  at: Date | null
  model_key: string | null
  model_bytes: number | null
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
  return rows.map(
    ({ claimed_for, path, relayed, at, model_key: key, model_bytes: bytes, ...order }) => ({
      ...order,
      claimedForMs: claimed_for ?? undefined,
      captured: path === null || at === null ? undefined : { path, relayed, at },
      model: key === null || bytes === null ? undefined : { key, bytes },
    }),
  )
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

/**
 * The Shop's part of a hand-over: the outbox row says `legacy` and CRM may take the order. Only of rows that still say `direct`,
 * so a repetition never lifts a claim that CRM has made since. Returns those that it changed.
 */
export async function handBack(
  shop: Pool,
  orderIds: readonly string[],
  epoch: number,
): Promise<string[]> {
  const { rows } = await shop.query<{ id: string }>(
    `WITH changed AS (
       UPDATE strangler.outbox SET path = 'legacy', epoch = $2, reason = jsonb_build_object('rule', 'handed over', 'before', reason)
       WHERE order_id = ANY($1::uuid[]) AND path = 'direct' RETURNING order_id),
     given AS (
       UPDATE public.orders o SET crm_sent_at = NULL FROM changed c WHERE o.id = c.order_id AND o.status = 'SUBMITTED')
     SELECT order_id::text AS id FROM changed`,
    [orderIds, epoch],
  )
  return rows.map((row) => row.id)
}

/** Direct orders, decided before this epoch, that no relay has taken yet. */
export async function listUnrelayed(shop: Pool, epoch: number, limit: number): Promise<string[]> {
  const { rows } = await shop.query<{ id: string }>(
    `SELECT order_id::text AS id FROM strangler.outbox WHERE relayed_at IS NULL AND path = 'direct' AND epoch < $1
     ORDER BY outbox.id LIMIT $2`,
    [epoch, limit],
  )
  return rows.map((row) => row.id)
}

export async function countUnrelayed(shop: Pool, epoch: number): Promise<number> {
  const { rows } = await shop.query<{ orders: number }>(
    `SELECT count(*)::int AS orders FROM strangler.outbox WHERE relayed_at IS NULL AND path = 'direct' AND epoch < $1`,
    [epoch],
  )
  return rows[0]!.orders
}
