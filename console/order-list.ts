import { deliveryStates } from '../contracts/order.ts'
import type { DeliveryState, Path } from '../contracts/order.ts'
import type { Pool } from '../runtime/postgres.ts'

export interface ListedOrder {
  readonly orderId: string
  readonly path: Path
  readonly statusPath: Path | undefined
  readonly state: DeliveryState
  readonly acceptedAt: Date
}

export type OrderFilter = DeliveryState | 'on-its-way'
export const orderFilters = ['on-its-way', 'in_doubt', 'dead'] as const

export function isOrderFilter(given: unknown): given is OrderFilter {
  return given === 'on-its-way' || deliveryStates.some((state) => state === given)
}

export const listedAtMost = 50

const columns = `order_id AS "orderId", path, status_path AS "statusPath", state, accepted_at AS "acceptedAt"`
const notTerminal = `state NOT IN ('delivered', 'dead', 'cancelled')`

/** The latest, or of a filter the oldest first: those have waited longest. */
export async function listOrders(
  ledger: Pool,
  wanted: { readonly text: string; readonly filter: OrderFilter | undefined },
): Promise<ListedOrder[]> {
  const { text, filter } = wanted
  const states =
    filter === 'on-its-way' ? ['accepted', 'sending'] : filter === undefined ? null : [filter]
  const open = filter !== undefined && !['delivered', 'dead', 'cancelled'].includes(filter)
  const { rows } = await ledger.query<
    Omit<ListedOrder, 'statusPath'> & { statusPath: Path | null }
  >(
    `SELECT ${columns} FROM order_ledger
     WHERE ($1::text[] IS NULL OR state = ANY($1)) AND ($2 = '' OR starts_with(order_id, $2) OR source_ref = $2)
       ${open ? `AND ${notTerminal}` : ''}
     ORDER BY accepted_at ${filter === undefined ? 'DESC' : ''} LIMIT $3`,
    [states, text, listedAtMost],
  )
  return rows.map((row) => ({ ...row, statusPath: row.statusPath ?? undefined }))
}

export async function isKnownOrder(ledger: Pool, orderId: string): Promise<boolean> {
  const { rowCount } = await ledger.query('SELECT FROM order_ledger WHERE order_id = $1', [orderId])
  return rowCount === 1
}
