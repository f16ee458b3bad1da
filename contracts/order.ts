/** The life of an order, in order, and the only system that may set each status. */
export const orderStatuses = {
  INITIATED: 'shop',
  FILE_UPLOADED: 'shop',
  SUBMITTED: 'shop',
  PRICE_CALCULATED: 'mes',
  MANUFACTURING_APPROVED: 'crm',
  MANUFACTURING_STARTED: 'mes',
  MANUFACTURING_COMPLETED: 'mes',
  PACKAGING: 'mes',
  SHIPPED: 'mes',
  CLOSED: 'crm',
} as const satisfies Record<string, 'shop' | 'mes' | 'crm'>

const ladder = Object.keys(orderStatuses)

/** Position in the life of an order, 0 = INITIATED; -1 for a word that is no status. */
export function statusRank(status: string): number {
  return ladder.indexOf(status)
}

/** `legacy` = through CRM, `direct` = through the ledger. Decided once at the order's seam, stored, then only read. */
export type Path = 'legacy' | 'direct'

/** What the ledger knows of an order's delivery into the MES; the diagram is in delivery/README.md. */
export const deliveryStates = [
  'accepted',
  'sending',
  'in_doubt',
  'delivered',
  'dead',
  'cancelled',
] as const
export type DeliveryState = (typeof deliveryStates)[number]

export const maximumOrderIdLength = 500

/** True for an id that the ledger takes: any text of 1 to 500 characters without control characters. */
export function isOrderId(value: unknown): value is string {
  return (
    typeof value === 'string' &&
    value.length >= 1 &&
    value.length <= maximumOrderIdLength &&
    !/\p{Cc}/u.test(value)
  )
}
