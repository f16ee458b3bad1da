import { redriven } from './order-hops.ts'
import type { BridgeTimes, Hop, Instant } from './order-hops.ts'

/** One status or price of the MES, from our bridge to where it ends: the Shop DB, or CRM, which writes it there. */
export interface StatusTrip {
  readonly status: string | undefined
  /** Exact decimal text; of one that went to CRM it is in CRM's message alone. */
  readonly price: string | undefined
  /** Not from the MES's own message, but from its row, by `reconcile --redrive`. */
  readonly redriven: boolean
  readonly to: 'Shop' | 'CRM'
  readonly hops: readonly Hop[]
  /** From the bridge to the last thing known. */
  readonly endToEndMs: number
  /** Of the last hop: as applied, forwarded, waiting or parked. */
  readonly state: string
  readonly reason: string | undefined
  readonly tries: number
}

const handedOver = 'handed over'
const keys: readonly string[] = ['order.price_calculated', 'order.status_changed', redriven]

/** Every status of the order in the order of arrival, each on its own: an applier may work on one while the MES tells the next. */
export function wayBack(messages: readonly BridgeTimes[]): StatusTrip[] {
  return messages
    .filter(({ routingKey }) => keys.includes(routingKey))
    .map((message) => {
      const { queue, status, price, receivedAt, settledAt } = message
      // What was handed over waited in our inbox, and goes where the order goes now.
      const inbox = message.inbox?.state === handedOver ? undefined : message.inbox
      const ofMes = queue !== redriven
      const hops: Hop[] = []
      if (ofMes) hops.push(hop(`bridge ${queue}`, receivedAt, settledAt))
      if (inbox !== undefined)
        hops.push(hop('status inbox', settledAt ?? receivedAt, inbox.settledAt))
      return {
        status,
        price,
        redriven: !ofMes,
        to: inbox === undefined ? 'CRM' : 'Shop',
        hops,
        endToEndMs: hops.reduce((sum, { ms }) => sum + (ms ?? 0), 0),
        state: inbox?.state ?? message.state,
        reason: inbox?.reason,
        tries: inbox?.tries ?? 0,
      }
    })
}

function hop(name: string, enter: Instant, leave: Instant | undefined): Hop {
  return { name, enter, leave, ms: leave === undefined ? undefined : leave - enter }
}
