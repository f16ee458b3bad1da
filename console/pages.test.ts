import test from 'ava'

import { gates, recordGates } from '../flags/gates.ts'
import type { GateResult } from '../flags/gates.ts'
import { advancePhase } from '../flags/phase-journal.ts'
import { phases } from '../flags/phases.ts'
import { noteEvent } from '../flags/timeline.ts'
import { writeWish } from '../flags/wish.ts'
import { startEstateDatabases } from '../test/estate-databases.ts'
import { Browser, makePerson, person, startConsole } from './console-under-test.ts'

const databases = await startEstateDatabases()
const { ledger, shop } = databases
const page = await startConsole(databases)
await makePerson(databases, 'ann', 'operator')
const ann = await person(page, 'ann')
test.after.always(async () => {
  await page.stop()
  await databases.stop()
})

const evil = `"'><img src=x onerror=alert(1)><script>alert(2)</script>&lt;`
const evilOrder = `o/1?a#b ${evil}`

function passed(id: GateResult['gate']): GateResult {
  return {
    gate: id,
    verdict: 'PASS',
    measured: '0 of 137 orders',
    needed: '0 of >= 100',
    says: 'all is well',
    orderIds: [],
    source: 'a test',
    unblock: undefined,
  }
}

async function judge(change: Partial<GateResult> = {}, gate = 'conservation'): Promise<void> {
  const all = gates.map(({ id }) => ({ ...passed(id), ...(id === gate ? change : {}) }))
  for (const { id } of phases) await recordGates(ledger, id, all)
}

test.serial('without evidence the first thing to see is "unknown", never 0', async (t) => {
  t.regex(await ann.words('/'), /^.{0,300}unknown unexplained orders/)
  t.notRegex(await ann.words('/'), /\b0 unexplained/)
})

test.serial('0 needs the gate of every phase, and fresh', async (t) => {
  await judge()
  t.regex(await ann.words('/'), /\b0 unexplained orders PASS/)
  await ledger.query(
    `UPDATE gate_result SET at = at - interval '31 seconds' WHERE phase = 'statuses-direct'`,
  )
  t.regex(
    await ann.words('/'),
    /unknown unexplained orders INCONCLUSIVE.*statuses-direct: the last value \(PASS: 0 of 137 orders\) is 31 s old/,
  )
  await judge()
  await ledger.query(
    `DELETE FROM gate_result WHERE phase = 'orders-direct' AND gate = 'conservation'`,
  )
  t.regex(await ann.words('/'), /unknown unexplained orders.*orders-direct: never judged/)
})

test.serial('orders that a gate misses are counted and named', async (t) => {
  await judge({ verdict: 'FAIL', says: '2 orders are nowhere', orderIds: ['lost-1', 'lost-2'] })
  const overview = await ann.words('/')
  t.regex(overview, /\b2 unexplained orders FAIL/)
  t.regex(overview, /lost-1.*lost-2/)
  await judge({ verdict: 'FAIL', says: 'the sides disagree' })
  t.regex(await ann.words('/'), /\bsome unexplained orders FAIL/)
  await judge({
    verdict: 'FAIL',
    says: 'many',
    orderIds: Array.from({ length: 30 }, (_, n) => `lost-${n}`),
  })
  t.regex(await ann.words('/'), /\b20 or more unexplained orders FAIL/)
})

test.serial('a wish above the gates is shown as such, with the gate that holds it', async (t) => {
  await judge({ verdict: 'FAIL', says: '3 prices differ' }, 'parity')
  await advancePhase({
    ledger,
    seam: shop,
    phase: 'orders-direct',
    share: 1000,
    who: 'ann',
    why: 'begin',
  })
  await writeWish(ledger, 'orders-direct', {
    share: 5000,
    source: 'command',
    who: 'bob',
    why: 'more',
  })
  t.regex(await ann.words('/'), /10 % in force 50 % wanted/)
  t.regex(await ann.words('/'), /bob wants 50 % \(“more”\): gate parity is FAIL/)
  const phase = await ann.words('/phases/orders-direct')
  t.regex(phase, /Not now: gate parity is FAIL: 3 prices differ/)
})

test.serial('a wish that is unknown, or was not read for long, is never a number', async (t) => {
  await writeWish(ledger, 'orders-direct', {
    share: undefined,
    reason: 'Unleash said 401',
    source: 'unleash',
    who: 'unleash',
    why: 'read',
  })
  t.regex(await ann.words('/'), /wish unknown.*What is wanted is unknown: Unleash said 401/)
  await writeWish(ledger, 'orders-direct', {
    share: 5000,
    source: 'unleash',
    who: 'unleash',
    why: 'read',
  })
  await ledger.query(`UPDATE wish SET read_at = read_at - interval '2 minutes'`)
  t.regex(await ann.words('/'), /unknown: it was last read from Unleash 2 min ago/)
})

test.serial('an advance sets the wish, once every gate passes', async (t) => {
  await judge()
  await ledger.query('DELETE FROM wish')
  const { rows } = await ledger.query<{ epoch: number }>(
    `SELECT epoch FROM phase WHERE phase = 'orders-direct'`,
  )
  const form = { why: 'go on', epoch: String(rows[0]!.epoch), share: '5000' }
  t.is((await ann.post('/phases/orders-direct/advance', form)).status, 303)
  t.regex(await ann.words('/phases/orders-direct'), /50 % wanted.*ann wants 50 % \(“go on”\)/)
  t.is((await ann.post('/phases/orders-direct/approve', form)).status, 303)
  t.regex(await ann.words('/phases/orders-direct'), /ann approved 50 %/)
  t.is((await ann.post('/phases/orders-direct/approve', form)).status, 409, 'once each')
})

test.serial(
  'the latest event stands first, also when their numbers get a digit more',
  async (t) => {
    await ledger.query(`INSERT INTO phase_event (phase, kind, who, says)
    SELECT NULL, 'redrive', 'ann', 'number ' || n FROM generate_series(1, 2000) n ORDER BY n`)
    for (const path of ['/timeline', '/audit'])
      t.regex(
        await ann.words(path),
        /first\.(?: all orders-direct statuses-direct partner-intake)? [\d:]+ redrive number 2000 ann [\d:]+ redrive number 1999 ann/,
      )
  },
)

test.serial('nothing that others wrote becomes markup', async (t) => {
  await judge({
    verdict: 'FAIL',
    says: evil,
    measured: evil,
    needed: evil,
    source: evil,
    unblock: evil,
    orderIds: [evilOrder],
  })
  await writeWish(ledger, 'orders-direct', { share: 9999, source: 'command', who: evil, why: evil })
  await noteEvent(ledger, {
    phase: 'orders-direct',
    kind: 'breach',
    who: evil,
    says: evil,
    detail: { why: evil },
  })
  await ledger.query(
    `UPDATE phase SET pin = 'hold', pinned_by = $1, pinned_why = $1, pinned_at = now()`,
    [evil],
  )
  await ledger.query(`UPDATE phase_journal SET who = $1, why = $1`, [evil])
  await ledger.query(
    `INSERT INTO replica (id, kind, host, pid, epochs, lease_ms) VALUES (gen_random_uuid(), $1, $1, 1, '{"orders-direct": 1}', 1000)`,
    [evil],
  )
  await ledger.query(
    `INSERT INTO approval (phase, share, epoch, who, why, evidence_sha256, expires_at) VALUES ('orders-direct', 5000, 1, $1, $1, 'x', now() + interval '1 hour')`,
    [evil],
  )
  await ledger.query(
    `INSERT INTO order_ledger (order_id, origin, source_ref, path, path_epoch, path_reason, state, routing_key, body, body_sha256, submitted_at, dead_reason)
     VALUES ($1, 'shop', $1, 'direct', 1, jsonb_build_object('rule', $1::text), 'dead', 'order.submitted', '', '', now(), to_jsonb($1::text))`,
    [evilOrder],
  )
  await ledger.query(
    `INSERT INTO order_event (order_id, hop, kind, actor, detail) VALUES ($1, $1, 'note', $1, to_jsonb($1::text))`,
    [evilOrder],
  )
  await ledger.query(
    `INSERT INTO bridge_inbox (queue, msg_key, order_id, routing_key, exchange, status, state, body, properties, redelivered)
     VALUES ($1, '1', $1, $1, 'x', $1, 'parked', '', '{}', false)`,
    [evilOrder],
  )
  await ledger.query(`INSERT INTO parity_count VALUES ('orders-direct', current_date, 10, 1)`)
  await ledger.query(
    `INSERT INTO parity_difference (phase, inbox_id, order_id, field, ours, theirs) VALUES ('orders-direct', 1, $1, $2, $2, $2), ('orders-direct', 1, $1, 'model.key', $2, $2)`,
    [evilOrder, evil],
  )
  const accept = { field: evil, until: '2027-01-01', why: evil }
  t.is((await ann.post('/parity/orders-direct/accept', accept)).status, 303)
  const query = encodeURIComponent(evil)
  const order = encodeURIComponent(evilOrder)
  for (const path of [
    '/',
    '/phases/orders-direct',
    '/phases/statuses-direct',
    '/hops',
    '/timeline',
    '/audit',
    '/parity/orders-direct',
    '/orders',
    `/orders?q=${query}`,
    '/orders?state=dead',
    `/orders/${order}`,
    `/orders/${query}`,
    `/phases/${query}`,
    `/timeline?phase=${query}`,
    `/phases/orders-direct?did=${query}`,
    `/login?next=${query}`,
    `/nope/${query}`,
  ]) {
    const answer = await ann.ask(path)
    const text = await answer.text()
    t.true(answer.status < 500, `${path}: ${answer.status}`)
    t.notRegex(text, /<img|<script>|onerror=alert\(1\)>/, path)
  }
  t.regex(await ann.words(`/orders/${order}`), /Refused for good/)
  t.is((await ann.ask(`/orders?q=${order}`)).headers.get('location'), `/orders/${order}`)
})

test.serial(
  'a difference is accepted for a field that differs, until a day to come, for a reason',
  async (t) => {
    const accept = { field: 'model.key', until: '2027-01-01', why: 'CRM rounds' }
    const refused = async (change: Partial<typeof accept>): Promise<number> =>
      (await ann.post('/parity/orders-direct/accept', { ...accept, ...change })).status
    t.is(await refused({ field: 'no such field' }), 404)
    t.is(await refused({ until: '2020-01-01' }), 400)
    t.is(await refused({ until: '2099-01-01' }), 400)
    t.is(await refused({ until: 'tomorrow' }), 400)
    t.is(await refused({ why: '' }), 400)
    t.is(await refused({}), 303)
    const words = await ann.words('/parity/orders-direct')
    t.regex(words, /model model\.key 1 difference in 1 order accepted until 2027-01-01/)
    t.regex(
      await ann.words('/audit'),
      /parity orders-direct differences in model\.key are accepted until 2027-01-01: CRM rounds ann/,
    )
  },
)

test.serial('an address that can not be read is answered in words', async (t) => {
  for (const [path, status] of [
    ['/orders/%', 400],
    ['/orders/%00', 400],
    ['/phases/nothing', 404],
    ['/nope', 404],
  ] as const) {
    const answer = await ann.ask(path)
    t.is(answer.status, status, path)
    t.regex(await answer.text(), /<h1>/)
  }
  const large = await ann.ask('/phases/orders-direct/hold', {
    method: 'POST',
    form: { why: 'x'.repeat(20_000) },
  })
  t.is(large.status, 413)
})

test.serial('no page may run or load what is not ours, be framed, or be kept', async (t) => {
  for (const path of ['/', '/login', '/nope', '/queues/', '/health', '/assets/console.js']) {
    const { headers } = await ann.ask(path)
    const policy = headers.get('content-security-policy') ?? ''
    t.regex(policy, /default-src 'none'; script-src 'self';/, path)
    t.regex(policy, /frame-ancestors 'none'/, path)
    if (path !== '/queues/') t.notRegex(policy, /unsafe/, path)
    t.is(headers.get('x-content-type-options'), 'nosniff')
    t.is(headers.get('x-powered-by'), null)
    t.regex(headers.get('cache-control') ?? '', /no-store|no-cache/)
  }
})

test.serial(
  'the live view sends the parts, then only what changed, and ends with the session',
  async (t) => {
    const browser = new Browser(page.url)
    await browser.logIn('ann')
    const answer = await browser.ask('/events/phases/statuses-direct', {
      headers: { accept: 'text/event-stream' },
    })
    t.is(answer.headers.get('content-type'), 'text/event-stream')
    const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader()
    let heard = ''
    const until = async (found: RegExp): Promise<void> => {
      while (!found.test(heard)) {
        const { value, done } = await reader.read()
        if (done) throw new Error(`ended before ${String(found)}; heard ${heard.slice(-500)}`)
        heard += value
      }
      heard = ''
    }
    await until(/"standing":.*"gates":/)
    await until(/event: parts\ndata: \{"at":"[^"]+","parts":\{\}\}/)
    await ledger.query(
      `UPDATE gate_result SET says = 'something new' WHERE phase = 'statuses-direct' AND gate = 'lag'`,
    )
    await until(/"parts":\{("acts"|"gates").*something new/)
    await ledger.query('DELETE FROM console_session')
    await until(/event: ended/)
    t.true((await reader.read()).done)
  },
)
