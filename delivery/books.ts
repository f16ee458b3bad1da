import type { DeliveryState, Path } from '../contracts/order.ts'

/** One path's orders of one minute of submits. It balances when everything accepted is in one of the others. */
export interface BookPage {
  readonly path: string
  readonly minute: string
  accepted: number
  delivered: number
  inFlight: number
  inDoubt: number
  dead: number
  cancelled: number
  /** What makes it not balance. */
  readonly orderIds: string[]
}

export interface BookedOrder {
  readonly orderId: string
  /** As the Shop decided it, in the transaction of the submit. */
  readonly captured: { readonly path: string; readonly relayed: boolean; readonly at: Date }
  readonly ledger: { readonly path: Path; readonly state: DeliveryState } | undefined
}

const columns = {
  accepted: 'inFlight',
  sending: 'inFlight',
  in_doubt: 'inDoubt',
  delivered: 'delivered',
  dead: 'dead',
  cancelled: 'cancelled',
} as const satisfies Record<DeliveryState, keyof BookPage>

/**
 * The books of the Shop's orders: accepted is counted by what the Shop decided, the rest by what the ledger has. So an order that
 * the ledger lacks, or has on another path than it was decided for, leaves a page that does not balance.
 */
export class Books {
  readonly #pages = new Map<string, BookPage>()

  add({ orderId, captured, ledger }: BookedOrder): void {
    const minute = `${captured.at.toISOString().slice(0, 16)}Z`
    const decided = this.#page(captured.path, minute)
    decided.accepted += 1
    if (ledger === undefined) {
      // What no relay has brought yet is on its way in the outbox.
      if (captured.relayed) decided.orderIds.push(orderId)
      else decided.inFlight += 1
      return
    }
    const page = this.#page(ledger.path, minute)
    page[columns[ledger.state]] += 1
    if (page !== decided) {
      decided.orderIds.push(orderId)
      page.orderIds.push(orderId)
    }
  }

  get pages(): number {
    return this.#pages.size
  }

  /** In the order of their minutes. */
  unbalanced(): BookPage[] {
    return [...this.#pages.values()]
      .filter((page) => page.orderIds.length > 0 || page.accepted !== settledOf(page))
      .toSorted((a, b) => (a.minute + a.path < b.minute + b.path ? -1 : 1))
  }

  #page(path: string, minute: string): BookPage {
    const key = `${minute} ${path}`
    const known = this.#pages.get(key)
    if (known !== undefined) return known
    const counts = { accepted: 0, delivered: 0, inFlight: 0, inDoubt: 0, dead: 0, cancelled: 0 }
    const page = { path, minute, ...counts, orderIds: [] }
    this.#pages.set(key, page)
    return page
  }
}

function settledOf({ delivered, inFlight, inDoubt, dead, cancelled }: BookPage): number {
  return delivered + inFlight + inDoubt + dead + cancelled
}
