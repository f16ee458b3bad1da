import type { DeliveryState, Path } from '../contracts/order.ts'

/** Milliseconds on the ledger's clock, with fractions. */
export type Instant = number

export interface TransportTimes {
  readonly path: Path
  readonly state: DeliveryState
  readonly submittedAt: Instant
  readonly acceptedAt: Instant
  readonly sendingAt: Instant | undefined
  readonly deliveredAt: Instant | undefined
}

/** A message of the order that passed one of the bridges. */
export interface BridgeTimes {
  readonly queue: string
  readonly routingKey: string
  readonly status: string | undefined
  /** Exact decimal text, of one that went into the status inbox. */
  readonly price?: string | undefined
  readonly state: string
  readonly receivedAt: Instant
  readonly settledAt: Instant | undefined
  /** Where it went on from the bridge without CRM. */
  readonly inbox?: InboxTimes | undefined
}

/** A status in the status inbox, whose way ends when it is applied to the Shop DB. */
export interface InboxTimes {
  readonly state: string
  readonly reason: string | undefined
  readonly tries: number
  readonly settledAt: Instant | undefined
}

export interface Hop {
  readonly name: string
  readonly enter: Instant
  /** Undefined for the hop the order is in now. */
  readonly leave: Instant | undefined
  readonly ms: number | undefined
}

/**
 * The way of one order, without a gap: each hop begins where the one before it ended, so that the hops add up to the time
 * from submit to the last thing known. A confirmation may be noted after what it confirms (the MES can tell a price before
 * its broker has answered the courier); such a hop then has no length, never a negative one.
 */
export function orderHops(order: TransportTimes, messages: readonly BridgeTimes[]): Hop[] {
  const ends = [...deliveryEnds(order), ...messageEnds(order, messages)]
  const hops: Hop[] = []
  let now = order.submittedAt
  for (const { name, at } of ends) {
    const leave = Math.max(now, at)
    hops.push({ name, enter: now, leave, ms: leave - now })
    now = leave
  }
  const current = currentHop(order, messages)
  if (current !== undefined)
    hops.push({ name: current, enter: now, leave: undefined, ms: undefined })
  return hops
}

interface End {
  readonly name: string
  readonly at: Instant
}

/** On the direct path, what the ledger saw; on the legacy path it only looks on. */
function deliveryEnds(order: TransportTimes): End[] {
  if (order.path === 'legacy') return []
  const ends: End[] = [{ name: 'relay', at: order.acceptedAt }]
  if (order.sendingAt === undefined) return ends
  ends.push({ name: 'doorbell', at: order.sendingAt })
  // After a delivery that was taken back (a redrive), the old times belong to the old try.
  if (order.state !== 'delivered' || order.deliveredAt === undefined) return ends
  ends.push({ name: 'courier', at: order.deliveredAt })
  return ends
}

function messageEnds(order: TransportTimes, messages: readonly BridgeTimes[]): End[] {
  return messages
    .filter((message) => !isBeside(order, message))
    .flatMap((message) => {
      const ends: End[] = [{ name: hopBefore(message), at: message.receivedAt }]
      const { queue, settledAt, inbox } = message
      if (settledAt !== undefined && queue !== redriven)
        ends.push({ name: `bridge ${queue}`, at: settledAt })
      if (inbox?.settledAt !== undefined) ends.push({ name: inboxHop, at: inbox.settledAt })
      return ends
    })
}

/** In place of a queue: a status that `reconcile --redrive` put into the status inbox, as it found it in the MES. */
export const redriven = 'redrive'
const inboxHop = 'status inbox'

/** What the bridge kept from the MES is no part of the order's way. */
function isBeside(order: TransportTimes, message: BridgeTimes): boolean {
  return (
    message.state === 'suppressed' ||
    (order.path === 'direct' && message.routingKey === 'order.submitted')
  )
}

function hopBefore(message: BridgeTimes): string {
  if (message.queue === redriven) return 'until the redrive'
  switch (message.routingKey) {
    case 'order.submitted':
      return 'CRM takes it up'
    case 'order.approved':
      return 'waits for seller'
    case 'order.closed':
      return 'waits for closing in CRM'
    case 'order.created':
      return 'MES takes it in'
    case 'order.price_calculated':
      return 'MES calculates'
    default:
      return workBefore(message.status)
  }
}

function workBefore(status: string | undefined): string {
  switch (status) {
    case 'MANUFACTURING_STARTED':
      return 'waits for operator'
    case 'MANUFACTURING_COMPLETED':
      return 'manufacturing'
    case 'PACKAGING':
      return 'waits for packing'
    case 'SHIPPED':
      return 'packing'
    default:
      return `MES, until ${status ?? 'its next message'}`
  }
}

/** Where the order is now; undefined when its way has ended. */
function currentHop(order: TransportTimes, messages: readonly BridgeTimes[]): string | undefined {
  const way = messages.filter((message) => !isBeside(order, message))
  const last = way.at(-1)
  if (last !== undefined && last.settledAt === undefined) return `bridge ${last.queue}`
  if (last?.inbox !== undefined && last.inbox.settledAt === undefined) return inboxHop
  switch (way.findLast((message) => !leavesAsItWas(message))?.status) {
    case undefined:
    case 'SUBMITTED':
      return currentDelivery(order, last !== undefined)
    case 'PRICE_CALCULATED':
      return 'waits for seller'
    case 'MANUFACTURING_APPROVED':
      return 'waits for operator'
    case 'MANUFACTURING_STARTED':
      return 'manufacturing'
    case 'MANUFACTURING_COMPLETED':
      return 'waits for packing'
    case 'PACKAGING':
      return 'packing'
    case 'SHIPPED':
      return 'waits for closing in CRM'
    case 'CLOSED':
      return undefined
    default:
      return `after ${last?.status ?? 'a message without a status'}`
  }
}

/** It came after the order had gone on, a person kept it out, or it was a price alone. */
function leavesAsItWas({ queue, status, inbox }: BridgeTimes): boolean {
  return (
    inbox?.state === 'backward' ||
    inbox?.state === 'dropped' ||
    (queue === redriven && status === undefined)
  )
}

function currentDelivery(order: TransportTimes, forwarded: boolean): string | undefined {
  if (order.path === 'direct') return directHop[order.state]
  return forwarded || order.state === 'delivered' ? 'MES calculates' : 'CRM takes it up'
}

const directHop: Readonly<Record<DeliveryState, string | undefined>> = {
  // Also after a failed try: it waits for the doorbell again.
  accepted: 'doorbell',
  sending: 'courier',
  in_doubt: 'in doubt: waits for evidence',
  delivered: 'MES calculates',
  dead: 'dead: waits for "strangler reconcile --redrive"',
  cancelled: undefined,
}
