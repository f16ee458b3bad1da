/** Where the legacy ends meet: the exchange one side publishes to, the queue the other reads, the keys between them. */
export interface LegacyLink {
  readonly exchange: string
  readonly queue: string
  readonly keys: readonly string[]
}

export const ordersToMes = {
  exchange: 'crm.orders',
  queue: 'mes.orders',
  keys: ['order.submitted', 'order.approved', 'order.closed'],
} as const satisfies LegacyLink

export const eventsToCrm = {
  exchange: 'mes.events',
  queue: 'crm.events',
  keys: ['order.created', 'order.price_calculated', 'order.status_changed'],
} as const satisfies LegacyLink

export const legacyLinks: readonly LegacyLink[] = [ordersToMes, eventsToCrm]

export function linkOf(queue: string): LegacyLink | undefined {
  return legacyLinks.find((link) => link.queue === queue)
}

/** Our durable queue in front of a legacy queue. */
export function bridgeQueue(queue: string): string {
  return `strangler.bridge.${queue}`
}

/** Our exchange behind the bridge. Its only binding is `#` to the legacy queue, so the consumer sees the original key. */
export function forwardExchange(queue: string): string {
  return `strangler.forward.${queue}`
}

/** The header that says which order a message is about, on everything that we send. */
export const orderHeader = 'x-strangler-order'

/**
 * AMQP types of the numeric headers seen in the estate, by header name (`int64`, `double`, ...): a number that is not
 * declared here leaves in the smallest type that holds it. None has been seen.
 */
export const legacyNumericHeaders: Readonly<Record<string, string>> = {}
