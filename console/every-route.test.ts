import test from 'ava'

import { prepareDoorbell } from '../delivery/prepare-doorbell.ts'
import { startEstateDatabases, submitOrder } from '../test/estate-databases.ts'
import { Browser, makePerson, person, startConsole, wordsOf } from './console-under-test.ts'

const databases = await startEstateDatabases()
await prepareDoorbell(databases.urls.broker)
const page = await startConsole(databases)
await makePerson(databases, 'ann', 'operator')
await makePerson(databases, 'rob', 'reader')
test.after.always(async () => {
  await page.stop()
  await databases.stop()
})

interface Layer {
  readonly name: string
  readonly route?: { readonly path: string | string[]; readonly methods: Record<string, boolean> }
  readonly handle?: {
    readonly stack?: readonly Layer[]
    readonly router?: { stack: readonly Layer[] }
  }
}

interface Route {
  readonly method: string
  readonly path: string
}

function stackOf(application: unknown): readonly Layer[] {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- Express does not type its router's stack
  return (application as { router: { stack: readonly Layer[] } }).router.stack
}

function routesOf(stack: readonly Layer[], prefix = ''): Route[] {
  return stack.flatMap(({ route, handle }) => {
    if (route === undefined) return routesOf(handle?.stack ?? handle?.router?.stack ?? [], prefix)
    const paths = Array.isArray(route.path) ? route.path : [route.path]
    return paths.flatMap((path) =>
      Object.keys(route.methods).map((method) => ({
        method: method.toUpperCase(),
        path: `${prefix}${path}`,
      })),
    )
  })
}

const samples: Readonly<Record<string, string>> = {
  phase: 'orders-direct',
  act: 'hold',
  order: '0b7e6f0a-5a1c-4f0e-9d5e-2f6f7e1c9a11',
  queueName: 'orders',
  jobId: '1',
}
const concrete = (path: string): string =>
  path.replaceAll(/:(\w+)/g, (_, name: string) => samples[name] ?? 'x')

const own = routesOf(stackOf(page.application))
const ofBoards = (['operator', 'reader'] as const).flatMap((of) =>
  routesOf(stackOf(page.boards.application(of)), '/queues'),
)
const everybodys = ['GET /health', 'GET /login', 'POST /login']
// Both boards have the same routes, and the search of orders has two handlers.
const guarded = [
  ...new Map([...own, ...ofBoards].map((route) => [`${route.method} ${route.path}`, route])),
]
  .filter(([name]) => !everybodys.includes(name))
  .map(([, route]) => route)
const acting = guarded.filter(({ method, path }) => method !== 'GET' && path !== '/logout')

/** What a person has done, or made others believe. */
async function deeds(): Promise<unknown> {
  const { rows } = await databases.ledger.query(
    `SELECT (SELECT count(*)::int FROM phase) AS phases, (SELECT count(*)::int FROM phase_journal) AS flips, (SELECT count(*)::int FROM wish) AS wishes,
       (SELECT count(*)::int FROM approval) AS approvals, (SELECT count(*)::int FROM parity_accepted) AS accepted,
       (SELECT count(*)::int FROM phase_event WHERE kind <> 'login') AS events`,
  )
  return rows[0]
}
const nothing = { phases: 0, flips: 0, wishes: 0, approvals: 0, accepted: 0, events: 0 }

test('the walk finds the routes', (t) => {
  const all = guarded.map(({ method, path }) => `${method} ${path}`)
  for (const known of [
    'GET /',
    'GET /events',
    'GET /partners',
    'GET /events/partners',
    'GET /orders/:order',
    'GET /events/orders/:order',
    'POST /logout',
    'POST /phases/:phase/:act',
    'POST /parity/:phase/accept',
    'GET /queues/api/queues',
    'PUT /queues/api/queues/:queueName/pause',
  ])
    t.true(all.includes(known), known)
})

test('only what is for everybody stands before the guards', (t) => {
  const stack = stackOf(page.application)
  const guards = ['personRequired', 'rightToActRequired'].map((name) =>
    stack.findIndex((layer) => layer.name === name),
  )
  t.true(guards.every((index) => index >= 0))
  const before = routesOf(stack.slice(0, Math.max(...guards)))
  t.deepEqual(
    before.map(({ method, path }) => `${method} ${path}`),
    everybodys,
  )
})

for (const { method, path } of guarded) {
  test.serial(`without a session: ${method} ${path}`, async (t) => {
    const nobody = new Browser(page.url)
    const answer = await nobody.ask(concrete(path), { method })
    const body = await answer.text()
    if (answer.status === 303) {
      t.is(method, 'GET')
      t.true(answer.headers.get('location')?.startsWith('/login?next='))
    } else t.is(answer.status, 401)
    t.notRegex(body, /unexplained|in force|Epoch|"queues":/)
  })
}

test.serial('without a session, also what nobody has thought of yet', async (t) => {
  const nobody = new Browser(page.url)
  t.is((await nobody.ask('/new-page')).status, 303)
  t.is((await nobody.ask('/new-act', { method: 'POST' })).status, 401)
  for (const method of ['PUT', 'PATCH', 'DELETE', 'OPTIONS'])
    t.is((await nobody.ask('/phases/orders-direct/kill', { method })).status, 401, method)
  nobody.cookies.set('strangler-session', 'x'.repeat(43))
  t.is((await nobody.ask('/')).status, 303)
})

test.serial('a reader sees every page, and can do nothing but log out', async (t) => {
  const rob = await person(page, 'rob')
  const csrf = await rob.csrf()
  t.truthy(csrf)
  for (const { method, path } of acting) {
    const form = {
      csrf,
      why: 'because',
      epoch: '0',
      share: '1000',
      field: 'x',
      until: '2099-01-01',
    }
    const answers = [
      await rob.ask(concrete(path), { method, form }),
      await rob.ask(concrete(path), { method, headers: { 'x-xsrf-token': csrf } }),
    ]
    for (const answer of answers) t.is(answer.status, 403, `${method} ${path}`)
  }
  t.is((await rob.post('/new-act', {}, csrf)).status, 403)
  t.deepEqual(await deeds(), nothing)
  for (const path of [
    '/',
    '/hops',
    '/timeline',
    '/audit',
    '/orders',
    '/phases/orders-direct',
    '/phases/partner-intake',
    '/partners',
    '/parity/statuses-direct',
    '/queues/',
  ])
    t.is((await rob.ask(path)).status, 200, path)
  t.true((await rob.text('/queues/api/queues')).includes('"readOnlyMode":true'))
  const phase = await rob.text('/phases/orders-direct')
  t.regex(phase, /you are signed in as a reader/)
  t.notRegex(phase, /<button aria-describedby="act-/)
  t.is((await rob.post('/logout', {}, csrf)).status, 303)
  t.is((await rob.ask('/')).status, 303)
})

test.serial('an operator without the token, or with another, can do nothing', async (t) => {
  const ann = await person(page, 'ann')
  const other = await person(page, 'ann')
  const wrong = ['', 'x'.repeat(43), await other.csrf(), ann.cookies.get('strangler-session') ?? '']
  for (const { method, path } of guarded.filter((route) => route.method !== 'GET')) {
    const why = { why: 'because', epoch: '0', share: '1000' }
    t.is((await ann.ask(concrete(path), { method, form: why })).status, 403, `${method} ${path}`)
    for (const csrf of wrong) {
      t.is((await ann.ask(concrete(path), { method, form: { ...why, csrf } })).status, 403)
      t.is(
        (await ann.ask(concrete(path), { method, headers: { 'x-xsrf-token': csrf } })).status,
        403,
      )
    }
  }
  t.deepEqual(await deeds(), nothing)
})

test.serial('nor with the right one from another site', async (t) => {
  const ann = await person(page, 'ann')
  const form = { csrf: await ann.csrf(), why: 'because', epoch: '0' }
  for (const site of ['cross-site', 'same-site', 'none']) {
    const headers = { 'sec-fetch-site': site }
    const answer = await ann.ask('/phases/orders-direct/hold', { method: 'POST', form, headers })
    t.is(answer.status, 403, site)
  }
  t.deepEqual(await deeds(), nothing)
})

test.serial('what is refused is in the audit', async (t) => {
  const ann = await person(page, 'ann')
  const rob = await person(page, 'rob')
  const form = { why: 'because', epoch: '0' }
  await ann.post('/phases/orders-direct/hold', form, 'x')
  await rob.post('/phases/orders-direct/hold', form)
  const audit = await ann.words('/audit')
  t.regex(audit, /refused: POST \/phases\/orders-direct\/hold: this form is not yours ann/)
  t.regex(audit, /refused: POST \/phases\/orders-direct\/hold: not allowed rob/)
})

test.serial('with all of it, an operator acts, and it is noted who and why', async (t) => {
  await submitOrder(databases.shop, '0b7e6f0a-5a1c-4f0e-9d5e-2f6f7e1c9a11')
  const ann = await person(page, 'ann')
  const held = await ann.post('/phases/orders-direct/hold', { why: 'lunch', epoch: '0', share: '' })
  t.is(held.headers.get('location'), '/phases/orders-direct?did=hold')
  const phase = await ann.words('/phases/orders-direct?did=hold')
  t.regex(phase, /The phase is held/)
  t.regex(phase, /“lunch”/)
  t.regex(await ann.words('/audit'), /hold orders-direct lunch ann/)
  const again = await ann.post('/phases/orders-direct/hold', { why: 'lunch', epoch: '0' })
  t.is(again.status, 409)
  t.regex(wordsOf(await again.text()), /held by ann/)
  t.regex(await ann.words('/audit'), /hold was not done: Hold: held by ann/)
})

test.serial('without a reason nothing is done', async (t) => {
  const ann = await person(page, 'ann')
  const answer = await ann.post('/phases/orders-direct/resume', { why: ' \n ', epoch: '0' })
  t.is(answer.status, 400)
  t.regex(await ann.words('/phases/orders-direct'), /held/)
})

test.serial('a button of another epoch does nothing, but the way back always works', async (t) => {
  const ann = await person(page, 'ann')
  const stale = await ann.post('/phases/orders-direct/resume', { why: 'go', epoch: '7' })
  t.is(stale.status, 409)
  t.regex(wordsOf(await stale.text()), /moved meanwhile/)
  const killed = await ann.post('/phases/orders-direct/kill', { why: 'wrong prices', epoch: '7' })
  t.is(killed.status, 303)
  t.regex(await ann.words('/phases/orders-direct'), /killed/)
})

test.serial('an advance waits for gates, and says for which', async (t) => {
  const ann = await person(page, 'ann')
  const { rows } = await databases.ledger.query<{ epoch: number }>(
    `SELECT epoch FROM phase WHERE phase = 'orders-direct'`,
  )
  const epoch = String(rows[0]?.epoch ?? 0)
  await ann.post('/phases/orders-direct/resume', { why: 'go', epoch })
  const answer = await ann.post('/phases/orders-direct/advance', {
    why: 'go',
    epoch,
    share: '1000',
  })
  t.is(answer.status, 409)
  t.regex(wordsOf(await answer.text()), /gate conservation is INCONCLUSIVE: never judged/)
})

test.serial(
  'an operator works on the doorbells with the token that Bull Board sends back',
  async (t) => {
    const ann = await person(page, 'ann')
    await ann.ask('/queues/')
    t.regex(ann.setCookies.join('\n'), /XSRF-TOKEN=[\w-]{43}; Path=\/queues; SameSite=Strict/)
    const headers = { 'x-xsrf-token': ann.cookies.get('XSRF-TOKEN') ?? '' }
    const path = '/queues/api/queues/orders/pause'
    t.is((await ann.ask(path, { method: 'PUT', headers })).status, 200)
    t.true((await ann.text('/queues/api/queues')).includes('"isPaused":true'))
    t.regex(
      await ann.words('/audit'),
      /queue PUT \/api\/queues\/orders\/pause on the doorbells ann/,
    )
  },
)
