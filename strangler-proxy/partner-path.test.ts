import test from 'ava'

import { isPartnerPath } from './partner-path.ts'

for (const target of [
  '/api/partner/v1',
  '/api/partner/v1/',
  '/api/partner/v1?page=2',
  '/api/partner/v1/orders',
  '/api/partner/v1/orders/1?x=/y',
  '/API/Partner/V1/orders',
  '/api/p%61rtner/v1/orders',
  '/api/partner%2fv1/orders',
  '//api//partner/v1/orders',
  '/x/../api/partner/v1/orders',
  '/api/./partner/%2e/v1/orders',
  String.raw`/api\partner\v1\orders`,
  '/api/partner;a=b/v1/orders',
])
  test(`of partners: ${target}`, (t) => t.true(isPartnerPath(target)))

for (const target of [
  '/',
  '/api/partner',
  '/api/partner/v10/orders',
  '/api/partner/v2/orders',
  '/api/orders?next=/api/partner/v1/orders',
  '/x/api/partner/v1/orders',
  '/api/partner/v1/../v2/orders',
  '/%',
  '/orders/%ff',
])
  test(`not of partners: ${target}`, (t) => t.false(isPartnerPath(target)))
