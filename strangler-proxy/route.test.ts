import test from 'ava'

import { routeOf } from './route.ts'

const order = '3f2b8c1e-9a4d-4e6f-8b7a-0123456789ab'

test("every step of an order's way that people and systems take has a name of its own", (t) => {
  for (const template of [
    '/api/orders/:id/model',
    '/api/orders/:id/submit',
    '/api/orders/:id/approve',
    '/api/orders/:id/close',
    ...['approve', 'take', 'complete', 'pack', 'ship', 'close'].map(
      (step) => `/orders/:id/${step}`,
    ),
  ]) {
    const target = `${template.replace(':id', order)}?back=1`
    const route = routeOf({
      method: 'POST',
      target,
      accept: '',
      chunked: false,
      contentLength: 0,
    })
    t.deepEqual(route, { template, routeClass: 'write', orderId: order })
  }
})
