/** Where the legacy ends meet: who sends what, and the queue it ends in. */
export const legacyTopology = [
  {
    exchange: 'crm.orders',
    queue: 'mes.orders',
    keys: ['order.submitted', 'order.approved', 'order.closed'],
  },
  {
    exchange: 'mes.events',
    queue: 'crm.events',
    keys: ['order.created', 'order.price_calculated', 'order.status_changed'],
  },
] as const
