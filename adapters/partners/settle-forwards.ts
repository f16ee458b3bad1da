import { acceptedBody, requestHash } from '../../contracts/partner-order.ts'
import type { Log } from '../../runtime/log.ts'
import type { Pool } from '../../runtime/postgres.ts'
import { type MesPartnerOrder, mesColumns, storeMesOrders } from './import-orders.ts'

interface Parts {
  readonly intake: Pool
  readonly mes: Pool
  readonly settleMs: number
  readonly log: Log
}

interface OpenForward {
  partner: string
  key_sha256: Buffer
  request_sha256: Buffer
  overdue: boolean
}

/**
 * Ends what an instance of the intake has left open: it asked the MES for an order, and died or lost the answer. The order that
 * the MES made is the answer. Where there is none, it is given up only when the MES can't be at it any more; then the same
 * request may come again.
 */
export async function settleForwards({ intake, mes, settleMs, log }: Parts): Promise<void> {
  const { rows: open } = await intake.query<OpenForward>(
    `SELECT partner, key_sha256, request_sha256, at < clock_timestamp() - $1::float8 * interval '1 millisecond' AS overdue
     FROM answer WHERE state = 'forwarding' AND at < clock_timestamp() - interval '5 seconds' ORDER BY at LIMIT 200`,
    [settleMs],
  )
  if (open.length === 0) return
  const { rows: made } = await mes.query<MesPartnerOrder & { partner: string; key: Buffer }>(
    `SELECT o.partner, k.key, ${mesColumns} FROM public.orders o
     JOIN unnest($1::text[], $2::bytea[]) AS k(partner, key) ON k.partner = o.partner
       AND sha256(convert_to(E'external_id\\n' || o.external_id, 'UTF8')) = k.key
     ORDER BY o.id`,
    [open.map(({ partner }) => partner), open.map(({ key_sha256: key }) => key)],
  )
  for (const order of made) {
    await storeMesOrders(intake, order.partner, [order])
    log.info('forward_settled', { orderId: order.orderId, partner: order.partner })
  }
  const overdue = open.filter((forward) => forward.overdue)
  await settleByAnother(intake, overdue, made)
  if (overdue.length === 0) return
  const { rowCount } = await intake.query(
    `DELETE FROM answer a USING unnest($1::text[], $2::bytea[], $3::bytea[]) AS o(partner, key_sha256, request_sha256)
     WHERE a.partner = o.partner AND a.key_sha256 = o.key_sha256 AND a.request_sha256 = o.request_sha256 AND a.state = 'forwarding'`,
    [
      overdue.map(({ partner }) => partner),
      overdue.map(({ key_sha256: key }) => key),
      overdue.map(({ request_sha256: request }) => request),
    ],
  )
  if (rowCount !== null && rowCount > 0) log.warn('forward_given_up', { keys: rowCount })
}

/**
 * Under the same external id the MES has an order of another content: whatever came of the request, to ask again would make one
 * more. The order that is there has the external id, and a request that says something else is told so.
 */
async function settleByAnother(
  intake: Pool,
  overdue: readonly OpenForward[],
  made: readonly (MesPartnerOrder & { partner: string; key: Buffer })[],
): Promise<void> {
  for (const { partner, key_sha256: key } of overdue) {
    const order = made.find((each) => each.partner === partner && each.key.equals(key))
    if (order === undefined) continue
    await intake.query(
      `UPDATE answer SET state = 'done', request_sha256 = $3, order_id = $4, status = 201, body = $5
       WHERE partner = $1 AND key_sha256 = $2 AND state = 'forwarding'`,
      [
        partner,
        key,
        requestHash(order),
        order.orderId,
        acceptedBody(order.orderId, order.externalId),
      ],
    )
  }
}
