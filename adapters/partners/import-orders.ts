import { acceptedBody, externalIdKey, requestHash } from '../../contracts/partner-order.ts'
import { inTransaction, type Client, type Pool } from '../../runtime/postgres.ts'

/** An order of a partner as the MES has it. */
export interface MesPartnerOrder {
  /** Of the MES's row: the order in which it took them. */
  readonly row: string
  readonly orderId: string
  readonly externalId: string
  readonly status: string
  readonly modelKey: string
  readonly modelSha256: string
  readonly modelBytes: number
  readonly material: string
  readonly quantity: number
  readonly comment: string | null
  /** Exact decimal text. */
  readonly price: string | null
  readonly currency: string | null
  readonly receivedAt: Date
  readonly updatedAt: Date
}

export interface ImportReport {
  /** New in the intake, and there before. */
  readonly imported: number
  readonly known: number
  /** The partner's orders in the MES, and those of them that the intake has with the same content, read back. */
  readonly inMes: number
  readonly inIntake: number
}

const pageRows = 1000

/** Of `public.orders` in the MES DB. */
export const mesColumns = `id::text AS row, order_id::text AS "orderId", external_id AS "externalId", status, model_key AS "modelKey",
  model_sha256 AS "modelSha256", model_bytes::float8 AS "modelBytes", material, quantity, comment, price::text AS price, currency,
  received_at AS "receivedAt", updated_at AS "updatedAt"`

/**
 * Brings every order of a partner that the MES has into the intake's database, with the answer that each has got. Of an external
 * id that the MES took more than once, the first order is the one that a retry is answered with. May be repeated at any time: what
 * is there is only carried forward. Read from the MES's tables and not over its API, since nobody but the partner has its key.
 */
export async function importPartnerOrders(
  pools: { readonly mes: Pool; readonly intake: Pool },
  partner: string,
  onProgress: (line: string) => void = () => undefined,
): Promise<ImportReport> {
  const { mes, intake } = pools
  let imported = 0
  let seen = 0
  let same = 0
  for (let after = '0'; ;) {
    const { rows } = await mes.query<MesPartnerOrder>(
      // Of an order that the MES has twice, the first row is the one that partners see.
      `SELECT ${mesColumns} FROM public.orders o WHERE partner = $1 AND id > $2 AND external_id IS NOT NULL
         AND NOT EXISTS (SELECT FROM public.orders b WHERE b.order_id = o.order_id AND b.id < o.id)
       ORDER BY id LIMIT ${pageRows}`,
      [partner, after],
    )
    if (rows.length === 0) break
    imported += await storeMesOrders(intake, partner, rows)
    same += await countSame(intake, partner, rows)
    seen += rows.length
    after = rows.at(-1)!.row
    onProgress(`${seen} orders of ${partner} read`)
  }
  const { rows } = await mes.query<{ n: number }>(
    'SELECT count(DISTINCT order_id)::int AS n FROM public.orders WHERE partner = $1 AND external_id IS NOT NULL',
    [partner],
  )
  return { imported, known: seen - imported, inMes: rows[0]?.n ?? 0, inIntake: same }
}

/** A status that the intake has heard of and the MES has not yet is no difference. */
async function countSame(
  intake: Pool,
  partner: string,
  orders: readonly MesPartnerOrder[],
): Promise<number> {
  const { rows } = await intake.query<{ n: number }>(
    `SELECT count(*)::int AS n
     FROM unnest($2::uuid[], $3::text[], $4::text[], $5::int[], $6::text[], $7::text[], $8::text[], $9::numeric[])
       AS i(id, external_id, material, quantity, comment, model_sha256, status, price)
     JOIN partner_order o ON o.id = i.id AND o.partner = $1 AND o.external_id = i.external_id AND o.material = i.material
       AND o.quantity = i.quantity AND o.comment IS NOT DISTINCT FROM i.comment AND o.model_sha256 = i.model_sha256
       AND status_rank(o.status) >= status_rank(i.status) AND (i.price IS NULL OR o.price = i.price)`,
    [
      partner,
      orders.map(({ orderId }) => orderId),
      orders.map(({ externalId }) => externalId),
      orders.map(({ material }) => material),
      orders.map(({ quantity }) => quantity),
      orders.map(({ comment }) => comment),
      orders.map(({ modelSha256 }) => modelSha256),
      orders.map(({ status }) => status),
      orders.map(({ price }) => price),
    ],
  )
  return rows[0]?.n ?? 0
}

/** Returns how many were new. */
export async function storeMesOrders(
  intake: Pool,
  partner: string,
  orders: readonly MesPartnerOrder[],
): Promise<number> {
  return inTransaction(intake, async (client) => {
    const imported = await storeOrders(client, partner, orders)
    await storeAnswers(client, partner, orders)
    return imported
  })
}

async function storeOrders(
  client: Client,
  partner: string,
  orders: readonly MesPartnerOrder[],
): Promise<number> {
  const { rows } = await client.query<{ fresh: boolean }>(
    `INSERT INTO partner_order AS o (id, partner, external_id, material, quantity, comment, model_key, model_sha256, model_bytes, born,
       path_epoch, path_reason, status, price, currency, created_at, updated_at)
     SELECT i.id, $1, i.external_id, i.material, i.quantity, i.comment, i.model_key, i.model_sha256, i.model_bytes, 'mes',
       0, '{"rule": "born in the MES"}', i.status, i.price, i.currency, i.created_at, i.updated_at
     FROM unnest($2::uuid[], $3::text[], $4::text[], $5::int[], $6::text[], $7::text[], $8::text[], $9::bigint[], $10::text[], $11::numeric[],
       $12::text[], $13::timestamptz[], $14::timestamptz[]) 
       AS i(id, external_id, material, quantity, comment, model_key, model_sha256, model_bytes, status, price, currency, created_at, updated_at)
     ON CONFLICT (id) DO UPDATE SET
       status = CASE WHEN status_rank(excluded.status) > status_rank(o.status) THEN excluded.status ELSE o.status END,
       price = coalesce(excluded.price, o.price), currency = coalesce(excluded.currency, o.currency),
       created_at = CASE o.born WHEN 'mes' THEN excluded.created_at ELSE o.created_at END,
       updated_at = greatest(o.updated_at, excluded.updated_at)
     RETURNING o.xmax = 0 AS fresh`,
    [
      partner,
      orders.map(({ orderId }) => orderId),
      orders.map(({ externalId }) => externalId),
      orders.map(({ material }) => material),
      orders.map(({ quantity }) => quantity),
      orders.map(({ comment }) => comment),
      orders.map(({ modelKey }) => modelKey),
      orders.map(({ modelSha256 }) => modelSha256),
      orders.map(({ modelBytes }) => modelBytes),
      orders.map(({ status }) => status),
      orders.map(({ price }) => price),
      orders.map(({ currency }) => currency),
      orders.map(({ receivedAt }) => receivedAt),
      orders.map(({ updatedAt }) => updatedAt),
    ],
  )
  return rows.filter(({ fresh }) => fresh).length
}

/** What each has been answered; of requests that somebody is still asking the MES for, this is the outcome. */
async function storeAnswers(
  client: Client,
  partner: string,
  orders: readonly MesPartnerOrder[],
): Promise<void> {
  const values = [
    partner,
    orders.map(({ externalId }) => externalIdKey(externalId)),
    orders.map((order) => requestHash(order)),
    orders.map(({ orderId }) => orderId),
    orders.map(({ orderId, externalId }) => acceptedBody(orderId, externalId)),
  ]
  await client.query(
    `UPDATE answer a SET state = 'done', order_id = i.order_id, status = 201, body = i.body
     FROM unnest($2::bytea[], $3::bytea[], $4::uuid[], $5::bytea[]) AS i(key_sha256, request_sha256, order_id, body)
     WHERE a.partner = $1 AND a.state = 'forwarding' AND a.request_sha256 = i.request_sha256`,
    values,
  )
  await client.query(
    `INSERT INTO answer (partner, key_sha256, request_sha256, state, order_id, status, body)
     SELECT $1, i.key_sha256, i.request_sha256, 'done', i.order_id, 201, i.body
     FROM unnest($2::bytea[], $3::bytea[], $4::uuid[], $5::bytea[]) WITH ORDINALITY AS i(key_sha256, request_sha256, order_id, body, n)
     ORDER BY i.n
     ON CONFLICT DO NOTHING`,
    values,
  )
}
