import { inTransaction, type Pool } from '../runtime/postgres.ts'
import type { OrderRequest } from './accept-orders.ts'
import type { MesAnswer } from './forward-to-mes.ts'

/** An order as its partner sees it, in the form of the MES: names, order of names, forms of values. */
export interface PartnerOrder {
  readonly id: string
  readonly external_id: string
  readonly status: string
  readonly material: string
  readonly quantity: number
  readonly comment: string | null
  /** Exact decimal text. */
  readonly price: string | null
  readonly currency: string | null
  readonly created_at: Date
  readonly updated_at: Date
}

export interface OrderPage {
  readonly orders: readonly PartnerOrder[]
  readonly page: number
  readonly total: number
  readonly pages: number
}

const pageSize = 50
const columns =
  'id, external_id, status, material, quantity, comment, price, currency, created_at, updated_at'

export async function findOrder(
  pool: Pool,
  partner: string,
  id: string,
): Promise<PartnerOrder | undefined> {
  const { rows } = await pool.query<PartnerOrder>({
    name: 'find-order',
    text: `SELECT ${columns} FROM partner_order WHERE id = $1 AND partner = $2`,
    values: [id, partner],
  })
  return rows[0]
}

export async function listOrders(
  pool: Pool,
  partner: string,
  status: string | undefined,
  page: number,
): Promise<OrderPage> {
  const which = `partner = $1${status === undefined ? '' : ' AND status = $2'}`
  const values = status === undefined ? [partner] : [partner, status]
  const counted = await pool.query<{ total: number }>(
    `SELECT count(*)::int AS total FROM partner_order WHERE ${which}`,
    values,
  )
  const { rows } = await pool.query<PartnerOrder>(
    `SELECT ${columns} FROM partner_order WHERE ${which}
     ORDER BY created_at DESC, id DESC LIMIT ${pageSize} OFFSET ${(page - 1) * pageSize}`,
    values,
  )
  const total = counted.rows[0]?.total ?? 0
  return { orders: rows, page, total, pages: Math.max(1, Math.ceil(total / pageSize)) }
}

/** The MES has made the order: from now on its answer is the answer. A feed that was faster has stored the same. */
export async function finishForward(
  pool: Pool,
  request: OrderRequest,
  decided: { readonly pathEpoch: number; readonly pathReason: unknown },
  answer: MesAnswer & { readonly orderId: string },
): Promise<void> {
  const { partner, keys, submission } = request
  const { externalId, material, quantity, comment, model } = submission
  await inTransaction(pool, async (client) => {
    await client.query(
      `INSERT INTO partner_order (id, partner, external_id, material, quantity, comment, model_key, model_sha256, model_bytes, born,
         path_epoch, path_reason, status, created_at, updated_at)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'mes', $10, $11, 'SUBMITTED', clock_timestamp(), clock_timestamp())
       ON CONFLICT (id) DO NOTHING`,
      [
        answer.orderId,
        partner,
        externalId,
        material,
        quantity,
        comment,
        model.key,
        model.sha256,
        model.bytes,
        decided.pathEpoch,
        JSON.stringify(decided.pathReason),
      ],
    )
    await client.query(
      `UPDATE answer SET state = 'done', order_id = $3, status = $4, body = $5
       WHERE partner = $1 AND key_sha256 = ANY($2::bytea[]) AND state = 'forwarding'`,
      [partner, keys, answer.orderId, answer.status, answer.body],
    )
  })
}

/**
 * The MES has not made it: the keys are free, and the same request may come again.
 * @param takenForMs since the keys were taken. Later ones are another's, if ours were given up meanwhile.
 */
export async function giveUpForward(
  pool: Pool,
  request: OrderRequest,
  takenForMs: number,
): Promise<void> {
  await pool.query(
    `DELETE FROM answer WHERE partner = $1 AND key_sha256 = ANY($2::bytea[]) AND request_sha256 = $3 AND state = 'forwarding'
       AND at <= clock_timestamp() - ($4::float8 - 1000) * interval '1 millisecond'`,
    [request.partner, request.keys, request.sha256, takenForMs],
  )
}
