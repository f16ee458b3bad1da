import type { OrderStatusRow } from '../../contracts/status-rules.ts'

/** Of `public.orders o` and its fence `f`, which it may lack. */
export const statusColumns =
  'o.id::text, o.status, o.price::text, o.currency, f.price_id, f.accepted_ids'

export interface StatusColumns {
  readonly id: string
  readonly status: string
  readonly price: string | null
  readonly currency: string | null
  readonly price_id: string | null
  readonly accepted_ids: readonly string[] | null
}

export function statusRowsById(rows: readonly StatusColumns[]): Map<string, OrderStatusRow> {
  return new Map(
    rows.map(({ id, status, price, currency, price_id: priceId, accepted_ids: accepted }) => [
      id,
      {
        status,
        price,
        currency,
        priceId: Number(priceId ?? 0),
        acceptedIds: (accepted ?? []).map(Number),
      },
    ]),
  )
}
