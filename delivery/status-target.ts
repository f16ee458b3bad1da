import type { OrderIdentity } from '../contracts/order-trace.ts'
import type { Judged, OrderStatusRow, StatusEvent } from '../contracts/status-rules.ts'

/** What is open of one order, in the order of arrival. */
export interface PendingStatuses extends OrderIdentity {
  readonly epoch: number
  readonly events: readonly StatusEvent[]
}

/**
 * absent: the target does not have the order yet. busy: somebody else holds its row. repinned: under a later epoch its statuses are
 * CRM's. refused: the target will not take it.
 */
export type Applied =
  | { readonly as: 'judged'; readonly judged: Judged }
  | { readonly as: 'absent' | 'busy' | 'repinned' }
  | { readonly as: 'refused'; readonly reason: string }

/**
 * Where statuses end: the database whose orders they are. `apply` is one transaction for all the orders given: their rows are
 * locked, judged as they stand then, written, and fenced. It waits for nobody: a row that is held is `busy`.
 */
export interface StatusTarget {
  apply(
    orders: readonly PendingStatuses[],
    judge: (row: OrderStatusRow, events: readonly StatusEvent[]) => Judged,
  ): Promise<ReadonlyMap<string, Applied>>
}
