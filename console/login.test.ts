import test from 'ava'

import { startEstateDatabases } from '../test/estate-databases.ts'
import { Browser, makePerson, person, rightPassword, startConsole } from './console-under-test.ts'
import { localPath } from './login-page.ts'
import { trustedPeers } from './trusted-peers.ts'
import { changeUser, listUsers } from './users.ts'

const databases = await startEstateDatabases()
const { ledger } = databases
const page = await startConsole(databases)
await makePerson(databases, 'ann', 'operator')
test.after.always(async () => {
  await page.stop()
  await databases.stop()
})
function as(name: string): { headers: Record<string, string> } {
  return { headers: { 'x-forwarded-user': name } }
}

test.beforeEach(async () => {
  await ledger.query('TRUNCATE console_attempt')
})

test.serial('the right password opens a session; the cookie is for the server alone', async (t) => {
  const browser = new Browser(page.url)
  const answer = await browser.logIn(' Ann ', rightPassword, '/hops?since=1h')
  t.is(answer.status, 303)
  t.is(answer.headers.get('location'), '/hops?since=1h')
  t.regex(
    browser.setCookies.join('\n'),
    /strangler-session=[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict/,
  )
  t.is((await browser.ask('/')).status, 200)
})

test.serial('the token is in no table, the password in no table and no event', async (t) => {
  const ann = await person(page, 'ann')
  const { rows } = await ledger.query<{ text: string }>(
    `SELECT (SELECT json_agg(s)::text FROM console_session s) || (SELECT json_agg(u)::text FROM console_user u) || (SELECT json_agg(e)::text FROM phase_event e) AS text`,
  )
  const token = ann.cookies.get('strangler-session') ?? ''
  t.is(token.length, 43)
  t.false(rows[0]!.text.includes(token))
  t.false(rows[0]!.text.includes(rightPassword))
})

test.serial('a wrong password and an unknown person get the same answer', async (t) => {
  const answers = await Promise.all(
    [
      ['ann', 'wrong password here'],
      ['nobody-at-all', 'wrong password here'],
      ["x' OR 1=1 --", rightPassword],
      ['ann', ''],
      ['', rightPassword],
      ['ann', `${rightPassword}${'x'.repeat(300)}`],
    ].map(async ([name, password]) => {
      const answer = await new Browser(page.url).logIn(name!, password)
      return {
        status: answer.status,
        body: (await answer.text()).replaceAll(
          /value="[\w-]+"|\d\d:\d\d:\d\d|datetime="[^"]+"/g,
          '',
        ),
      }
    }),
  )
  t.is(answers[0]!.status, 401)
  t.regex(answers[0]!.body, /Name or password is wrong/)
  for (const answer of answers) t.deepEqual(answer, answers[0])
})

test.serial('after five tries from one place even the right password has to wait', async (t) => {
  const browser = new Browser(page.url)
  for (let round = 0; round < 5; round += 1)
    t.is((await browser.logIn('ann', 'wrong password')).status, 401)
  const answer = await browser.logIn('ann')
  t.is(answer.status, 429)
  const wait = Number(answer.headers.get('retry-after'))
  t.true(wait > 0 && wait <= 900)
  t.is((await browser.logIn('somebody-else')).status, 401, 'another name may still be tried')
  await ledger.query(`UPDATE console_attempt SET since = since - interval '16 minutes'`)
  t.is((await browser.logIn('ann')).status, 303)
})

test.serial('tries at the same time can not pass the limit together', async (t) => {
  const statuses = await Promise.all(
    Array.from(
      { length: 12 },
      async () => (await new Browser(page.url).logIn('ann', 'wrong password')).status,
    ),
  )
  t.is(statuses.filter((status) => status === 401).length, 5)
  t.is(statuses.filter((status) => status === 429).length, 7)
})

test.serial('a session that was planted before the login is worth nothing after it', async (t) => {
  const planted = 'p'.repeat(43)
  const victim = new Browser(page.url)
  victim.cookies.set('strangler-session', planted)
  await victim.logIn('ann')
  t.not(victim.cookies.get('strangler-session'), planted)
  t.is((await victim.ask('/')).status, 200)
  const attacker = new Browser(page.url)
  attacker.cookies.set('strangler-session', planted)
  t.is((await attacker.ask('/')).status, 303)
  const first = victim.cookies.get('strangler-session')
  await victim.logIn('ann')
  attacker.cookies.set('strangler-session', first ?? '')
  t.is((await attacker.ask('/')).status, 303, 'a new login ends the session before it')
})

test.serial('a login form of another browser is refused', async (t) => {
  const csrf = await new Browser(page.url).csrf('/login')
  const other = new Browser(page.url)
  const form = { name: 'ann', password: rightPassword, csrf, next: '/' }
  t.is((await other.ask('/login', { method: 'POST', form })).status, 403)
  t.is((await other.ask('/login', { method: 'POST', form: { ...form, csrf: '' } })).status, 403)
})

test.serial('logging out ends the session at the server', async (t) => {
  const ann = await person(page, 'ann')
  const token = ann.cookies.get('strangler-session') ?? ''
  t.is((await ann.post('/logout', {})).status, 303)
  t.false(ann.cookies.has('strangler-session'))
  const thief = new Browser(page.url)
  thief.cookies.set('strangler-session', token)
  t.is((await thief.ask('/')).status, 303)
})

test.serial('a session that was idle for too long, or lasted too long, is over', async (t) => {
  for (const change of [`seen_at = seen_at - interval '8 hours'`, `ends_at = clock_timestamp()`]) {
    const ann = await person(page, 'ann')
    await ledger.query(`UPDATE console_session SET ${change}`)
    t.is((await ann.ask('/')).status, 303, change)
  }
  const ann = await person(page, 'ann')
  await ledger.query(`UPDATE console_session SET seen_at = seen_at - interval '7 hours'`)
  t.is((await ann.ask('/')).status, 200)
  await ledger.query(`UPDATE console_session SET seen_at = seen_at - interval '7 hours'`)
  t.is((await ann.ask('/')).status, 200, 'each look keeps it alive')
})

test.serial(
  'who is disabled, or gets another role or password, is logged out at once',
  async (t) => {
    await makePerson(databases, 'bob', 'operator')
    for (const change of [
      { disabled: true },
      { disabled: false },
      { role: 'reader' },
      { password: 'another long password' },
    ] as const) {
      const { rows } = await ledger.query<{ disabled: boolean }>(
        `SELECT disabled FROM console_user WHERE name = 'bob'`,
      )
      const bob = rows[0]!.disabled ? new Browser(page.url) : await person(page, 'bob')
      await changeUser(ledger, 'bob', change, 'test')
      t.is((await bob.ask('/')).status, 303, JSON.stringify(change))
    }
    t.is((await new Browser(page.url).logIn('bob')).status, 401)
    t.is((await new Browser(page.url).logIn('bob', 'another long password')).status, 303)
    await changeUser(ledger, 'bob', { disabled: true }, 'test')
    t.is((await new Browser(page.url).logIn('bob', 'another long password')).status, 401)
    t.like(
      (await listUsers(ledger)).find(({ name }) => name === 'bob'),
      { role: 'reader', disabled: true },
    )
  },
)

test.serial(
  'logins, refused ones and log-outs are in the audit; of an unknown name nothing',
  async (t) => {
    await new Browser(page.url).logIn('secret-typed-as-name', 'x')
    await new Browser(page.url).logIn('ann', 'x')
    const ann = await person(page, 'ann')
    const audit = await ann.text('/audit')
    t.regex(audit, /signed in/)
    t.regex(audit, /sign-in refused/)
    t.regex(audit, /signed out/)
    t.notRegex(audit, /secret-typed-as-name/)
  },
)

test.serial('behind https the cookies are for https alone', async (t) => {
  const secure = await startConsole(databases, { secure: true })
  try {
    const browser = new Browser(secure.url)
    const answer = await browser.logIn('ann')
    t.regex(
      browser.setCookies.join('\n'),
      /__Host-strangler-session=[\w-]{43}; Path=\/; HttpOnly; Secure; SameSite=Strict/,
    )
    t.truthy(answer.headers.get('strict-transport-security'))
  } finally {
    await secure.stop()
  }
})

test.serial('no header says who somebody is where that is not configured', async (t) => {
  const browser = new Browser(page.url)
  for (const header of ['x-forwarded-user', 'remote-user', 'x-remote-user', 'authorization'])
    t.is((await browser.ask('/', { headers: { [header]: 'ann' } })).status, 303, header)
})

test.serial('where it is configured, only the proxy of the house is believed', async (t) => {
  const operators = new Set(['ann@house'])
  const ours = await startConsole(databases, {
    headerLogin: { header: 'x-forwarded-user', operators, peers: trustedPeers('127.0.0.0/8') },
  })
  const others = await startConsole(databases, {
    headerLogin: { header: 'x-forwarded-user', operators, peers: trustedPeers('10.1.2.3') },
  })
  try {
    t.is((await new Browser(others.url).ask('/', as('ann@house'))).status, 401)
    const browser = new Browser(ours.url)
    t.is((await browser.ask('/')).status, 401)
    t.is((await browser.ask('/', as('ann@house, eve'))).status, 401)
    t.is((await browser.ask('/', as(''))).status, 401)
    t.regex(await (await browser.ask('/', as('eve'))).text(), /eve <small>reader/)
    const page2 = await (await browser.ask('/', as('ann@house'))).text()
    t.regex(page2, /ann@house <small>operator/)
    const csrf = /name="csrf" value="([^"]+)"/.exec(page2)?.[1] ?? ''
    const form = { csrf, why: 'lunch', epoch: '0' }
    const hold = { method: 'POST', form }
    t.is((await browser.ask('/phases/statuses-direct/hold', { ...hold, ...as('eve') })).status, 403)
    t.is(
      (await browser.ask('/phases/statuses-direct/hold', { ...hold, ...as('ann@house') })).status,
      303,
    )
    t.is((await browser.ask('/login', as('ann@house'))).status, 404)
    const bare = new Browser(ours.url)
    t.is(
      (
        await bare.ask('/phases/statuses-direct/resume', {
          method: 'POST',
          form: { ...form, csrf: '' },
          ...as('ann@house'),
        })
      ).status,
      403,
    )
  } finally {
    await ours.stop()
    await others.stop()
  }
})

for (const [given, expected] of [
  ['/hops?since=1h', '/hops?since=1h'],
  ['//evil.example', '/'],
  [String.raw`/\evil.example`, '/'],
  ['https://evil.example', '/'],
  ['/a/..//evil.example', '/'],
  ['/\tx', '/'],
  [undefined, '/'],
] as const) {
  test(`after the login: ${JSON.stringify(given)} leads to ${expected}`, (t) => {
    t.is(localPath(given), expected)
  })
}
