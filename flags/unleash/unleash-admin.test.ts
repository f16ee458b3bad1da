import test, { type ExecutionContext } from 'ava'

import { type ErrorCode, StranglerError } from '../../contracts/errors.ts'
import {
  type Behaviour,
  hangs,
  rollout,
  says,
  startUnleashStub,
  type UnleashStub,
} from './test-unleash-stub.ts'
import { unleashAdmin } from './unleash-admin.ts'

const token = '*:*.a-secret-of-this-test'

async function stubOf(t: ExecutionContext, behaviour: Behaviour): Promise<UnleashStub> {
  const stub = await startUnleashStub(behaviour)
  t.teardown(() => stub.close())
  return stub
}

const failures: readonly [string, Behaviour, ErrorCode, RegExp][] = [
  ['401', says(401), 'flag_server_refused', /does not know the token; look at UNLEASH_ADMIN_TOKEN/],
  ['403', says(403), 'flag_server_refused', /may not do this/],
  [
    '400 with its words',
    says(400, '{"message":"no","details":[{"message":"the name is bad"}]}'),
    'flag_server_refused',
    /400, no the name is bad/,
  ],
  ['409', says(409, '{"message":"exists"}'), 'flag_server_refused', /409, exists/],
  ['500', says(500), 'flag_server_unavailable', /: 500/],
  ['503', says(503, '<html>'), 'flag_server_unavailable', /: 503/],
  ['429', says(429), 'flag_server_unavailable', /: 429/],
  [
    'a page',
    says(200, '<html>Log in</html>'),
    'flag_server_unavailable',
    /no JSON; is UNLEASH_URL/,
  ],
  [
    'a redirect',
    says(302, '', { location: 'http://127.0.0.1:9/login' }),
    'flag_server_refused',
    /302, it sends us elsewhere/,
  ],
  ['no answer', hangs, 'flag_server_unavailable', /no answer within 200 ms; look at UNLEASH_URL/],
  [
    'a connection that breaks',
    (request) => request.socket.destroy(),
    'flag_server_unavailable',
    /look at UNLEASH_URL/,
  ],
  [
    'no such environment',
    says(200, JSON.stringify({ environments: [{ ...rollout('staging', 1) }] })),
    'flag_server_refused',
    /orders-direct is in no environment development, but in staging; set UNLEASH_ENVIRONMENT/,
  ],
  [
    'another form',
    says(200, JSON.stringify({ environments: [{ name: 'development', enabled: 7 }] })),
    'flag_server_unavailable',
    /in a form that we do not know/,
  ],
]
for (const [what, behaviour, code, message] of failures) {
  test(`a call that is answered with ${what} says so: ${code}`, async (t) => {
    const stub = await stubOf(t, behaviour)
    const admin = unleashAdmin({
      url: stub.url,
      token,
      timeoutMs: behaviour === hangs ? 200 : 20_000,
    })
    const error = await t.throwsAsync(admin.readFlag('orders-direct'), {
      instanceOf: StranglerError,
      message,
    })
    t.is(error.code, code)
    t.false(`${error.message} ${String(error.cause)}`.includes('a-secret-of-this-test'))
  })
}

test('nobody listens', async (t) => {
  const stub = await stubOf(t, hangs)
  await stub.close()
  const error = await t.throwsAsync(
    unleashAdmin({ url: stub.url, token }).setEnabled('orders-direct', true),
    { instanceOf: StranglerError, message: /ECONNREFUSED/ },
  )
  t.is(error.code, 'flag_server_unavailable')
})

test('the token goes to the address of the setting and nowhere else', async (t) => {
  const elsewhere = await stubOf(t, says(200, '{}'))
  const stub = await stubOf(t, says(307, '', { location: `${elsewhere.url}/admin` }))
  await t.throwsAsync(unleashAdmin({ url: stub.url, token }).setEnabled('orders-direct', true))
  t.is(elsewhere.asked, 0)
})
