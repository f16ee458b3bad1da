import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import test from 'ava'

import { startEmbeddedPostgres } from '../estate/embedded-postgres.ts'
import { startUnleash } from '../estate/unleash-server.ts'
import { setWish } from '../flags/unleash/set-wish.ts'
import { keptLog } from '../flags/unleash/test-unleash-stub.ts'
import { unleashAdmin } from '../flags/unleash/unleash-admin.ts'
import { unleashWish, type Wish } from '../flags/unleash/unleash-wish.ts'
import { runCommand } from '../scripts/command-line/run-command.ts'
import { catalog } from '../scripts/commands/catalog.ts'
import { type Said, runStrangler } from './run-strangler.ts'
import { waitUntil } from './wait-until.ts'

/** On the real server, from npm: what people click there is what the wish says, and `strangler flags` respects it. */
const folder = await mkdtemp(join(tmpdir(), 'strangler-unleash-'))
const postgres = await startEmbeddedPostgres()
const unleash = await startUnleash(postgres)
const url = `${unleash.url}/api`
const log = keptLog()
const wish = unleashWish({
  url,
  token: unleash.clientToken,
  backupDirectory: join(folder, 'backup'),
  refreshIntervalMs: 100,
  renewAfterMs: 1500,
  ageLimitMs: 3000,
  log,
})
const admin = unleashAdmin({ url, token: unleash.adminToken })
await wish.start()

test.after.always(async () => {
  await wish.stop()
  await unleash.stop()
  await postgres.stop()
  await rm(folder, { recursive: true, force: true })
})

const settings = { UNLEASH_URL: url, UNLEASH_ADMIN_TOKEN: unleash.adminToken }
/** In this process: a dozen of its own would take longer than all the rest. */
async function flags(verb: string, environment: Record<string, string> = {}): Promise<Said> {
  Object.assign(process.env, settings, environment)
  let out = ''
  let err = ''
  const streams = {
    out: (text: string) => void (out += text),
    err: (text: string) => void (err += text),
  }
  try {
    const code = await runCommand(catalog, ['flags', verb, '--json'], streams, folder)
    return { code, out, err }
  } finally {
    for (const name of Object.keys({ ...settings, ...environment })) delete process.env[name]
  }
}

interface Report {
  readonly phase: string
  readonly wish: number | null
  readonly done: readonly string[]
  readonly differences: readonly { readonly mend: string; readonly says: string }[]
}
function reportOf(said: Said, phase = 'orders-direct'): Report {
  const document: { flags: Report[] } = JSON.parse(said.out)
  return document.flags.find((each) => each.phase === phase)!
}

/** What a person does on the page: the page itself speaks to this API. */
async function click(method: string, path: string, body?: object): Promise<void> {
  const response = await fetch(`${url}/admin/${path}`, {
    method,
    headers: { authorization: unleash.adminToken, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`)
}
const flag = 'projects/default/features/orders-direct'
const inDevelopment = `${flag}/environments/development`
async function strategyId(): Promise<string> {
  const found = await admin.readFlag('orders-direct')
  if (found.state !== 'found') throw new Error(found.state)
  return found.strategies[0]!.id
}
async function clickRollout(percent: number): Promise<void> {
  const change = [{ op: 'replace', path: '/parameters/rollout', value: String(percent) }]
  await click('PATCH', `${inDevelopment}/strategies/${await strategyId()}`, change)
}

const until = (what: string, is: (now: Wish) => boolean): Promise<Wish> =>
  waitUntil(what, async () => {
    const now = wish.of('orders-direct')
    if (is(now)) return now
    throw new Error(JSON.stringify(now))
  })
const untilShare = (share: number): Promise<Wish> =>
  until(`a wish of ${share}`, (now) => now.state === 'known' && now.share === share)
const untilUnknown = (reason: RegExp): Promise<Wish> =>
  until(String(reason), (now) => now.state === 'unknown' && reason.test(now.reason))

test.serial(
  'the password of this start opens the pages, and the well-known one does not',
  async (t) => {
    const logIn = async (password: string): Promise<number> => {
      const response = await fetch(`${unleash.url}/auth/simple/login`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ username: unleash.user, password }),
      })
      return response.status
    }
    t.is(await logIn(unleash.password), 200)
    t.is(await logIn('unleash4all'), 401)
    t.deepEqual(
      unleash.process.lastLines().filter((line) => line.includes(unleash.password)),
      [],
    )
  },
)

test.serial(
  'before anything is made the wish is unknown, and diff says what is missing',
  async (t) => {
    await untilUnknown(/an empty list of flags/)
    const said = await flags('diff')
    t.is(said.code, 1, said.err)
    t.like(reportOf(said), { wish: null, done: [] })
    t.deepEqual(
      reportOf(said).differences.map(({ mend }) => mend),
      ['create'],
    )
    t.like(await admin.readFlag('orders-direct'), { state: 'absent' })
    await t.throwsAsync(setWish(admin, 'orders-direct', 1000), { message: /strangler flags apply/ })
  },
)

test.serial('apply makes the flags, on at 0 %; a second time it does nothing', async (t) => {
  const said = await flags('apply')
  t.is(said.code, 0, said.err)
  for (const phase of ['orders-direct', 'statuses-direct'])
    t.like(reportOf(said, phase), { wish: 0, done: ['created: on, at 0 %'], differences: [] })
  const found = await admin.readFlag('orders-direct')
  t.like(found, { state: 'found', type: 'release', enabled: true })
  t.true(found.state === 'found' && found.description.startsWith('Shop -> MES: new orders go'))
  t.like(found.state === 'found' ? found.strategies[0] : undefined, {
    name: 'flexibleRollout',
    parameters: { rollout: '0', groupId: 'strangler', stickiness: 'userId' },
  })
  await untilShare(0)
  t.is((await flags('diff')).code, 0)
  const again = await flags('apply')
  t.is(again.code, 0)
  t.deepEqual(reportOf(again).done, [])
})

test.serial('a click is the wish: 10 %, off, on again', async (t) => {
  await clickRollout(10)
  await untilShare(1000)
  await click('POST', `${inDevelopment}/off`)
  await untilShare(0)
  await click('POST', `${inDevelopment}/on`)
  await untilShare(1000)
  const text = await runStrangler(['flags', 'diff'], settings, folder)
  t.is(text.code, 0)
  t.regex(text.out, /^orders-direct: as it should be; the wish is 10 %$/m)
})

test.serial('setWish is a click too; a share that Unleash can not say is refused', async (t) => {
  t.deepEqual(await setWish(admin, 'orders-direct', 2500), {
    changed: true,
    before: 1000,
    share: 2500,
  })
  await untilShare(2500)
  t.like(await setWish(admin, 'orders-direct', 2500), { changed: false })
  await click('POST', `${inDevelopment}/off`)
  t.like(await setWish(admin, 'orders-direct', 5000), { changed: true, before: 0, share: 5000 })
  await untilShare(5000)
  t.like(await setWish(admin, 'orders-direct', 0), { changed: true, before: 5000 })
  await untilShare(0)
  const error = await t.throwsAsync(setWish(admin, 'orders-direct', 250))
  t.regex(error.message, /whole percents: 2\.5 % is none, 2 % and 3 % are/)
  await t.throwsAsync(setWish(admin, 'orders-direct', 10_100), { message: /invalid_argument/ })
  t.like(wish.of('orders-direct'), { state: 'known', share: 0 })
})

test.serial(
  'apply mends what is ours, and leaves on, off and the rollout as people set them',
  async (t) => {
    await clickRollout(30)
    await click('POST', `${inDevelopment}/off`)
    await click('PUT', flag, { name: 'orders-direct', type: 'experiment', description: 'mine now' })
    await click('PATCH', `${inDevelopment}/strategies/${await strategyId()}`, [
      { op: 'replace', path: '/parameters/groupId', value: 'mine' },
      { op: 'replace', path: '/parameters/stickiness', value: 'random' },
      { op: 'replace', path: '/title', value: 'a title of mine' },
    ])
    const before = await flags('diff')
    t.is(before.code, 1)
    t.deepEqual(
      reportOf(before).differences.map(({ says }) => says),
      [
        'its type is experiment, not release; its description is not that of the phase',
        'its groupId is mine, not strangler; its stickiness is random, not userId',
      ],
    )
    const applied = await flags('apply')
    t.is(applied.code, 0, applied.err)
    t.is(reportOf(applied).done.length, 2)
    t.is((await flags('diff')).code, 0)
    const found = await admin.readFlag('orders-direct')
    t.like(found, { enabled: false, type: 'release' })
    t.like(found.state === 'found' ? found.strategies[0] : undefined, {
      parameters: { rollout: '30', groupId: 'strangler', stickiness: 'userId' },
    })
    await click('POST', `${inDevelopment}/on`)
    await untilShare(3000)
  },
)

test.serial('the default strategy becomes a rollout of the same share', async (t) => {
  await click('PATCH', `${inDevelopment}/strategies/${await strategyId()}`, [
    { op: 'replace', path: '/name', value: 'default' },
    { op: 'replace', path: '/parameters', value: {} },
  ])
  await untilShare(10_000)
  await t.throwsAsync(setWish(admin, 'orders-direct', 1000), { message: /strangler flags apply/ })
  const applied = await flags('apply')
  t.is(applied.code, 0, applied.err)
  t.like(reportOf(applied), { wish: 10_000, differences: [] })
  t.is(reportOf(applied).done.length, 1)
  await clickRollout(20)
  await untilShare(2000)
})

test.serial('what people made of a flag is theirs: told, refused, not touched', async (t) => {
  await click('POST', `${inDevelopment}/strategies`, {
    name: 'flexibleRollout',
    parameters: { rollout: '50', groupId: 'strangler', stickiness: 'userId' },
    constraints: [{ contextName: 'userId', operator: 'IN', values: ['7'], inverted: false }],
  })
  await untilUnknown(/says no share: it has 2 strategies/)
  const applied = await flags('apply')
  t.is(applied.code, 1)
  t.like(reportOf(applied), { wish: null, done: [] })
  t.deepEqual(
    reportOf(applied).differences.map(({ mend }) => mend),
    ['by people'],
  )
  await t.throwsAsync(setWish(admin, 'orders-direct', 1000), { message: /it has 2 strategies/ })
  const found = await admin.readFlag('orders-direct')
  const second = found.state === 'found' ? found.strategies[1]!.id : ''
  await click('DELETE', `${inDevelopment}/strategies/${second}`)
  await untilShare(2000)
})

test.serial(
  'a flag without a strategy, as a run that was ended half way leaves it, gets one at 0 %',
  async (t) => {
    await click('DELETE', `${inDevelopment}/strategies/${await strategyId()}`)
    // Unleash switches it off by itself.
    await untilShare(0)
    const before = await flags('diff')
    t.is(before.code, 1)
    t.deepEqual(
      reportOf(before).differences.map(({ mend }) => mend),
      ['add strategy'],
    )
    t.is((await flags('apply')).code, 0)
    t.like(await setWish(admin, 'orders-direct', 2000), { changed: true, before: 0 })
    await untilShare(2000)
  },
)

test.serial('a flag that was archived is unknown, and revived off', async (t) => {
  await click('DELETE', flag)
  await untilUnknown(/none of the name orders-direct/)
  const before = await flags('diff')
  t.is(before.code, 1)
  t.deepEqual(
    reportOf(before).differences.map(({ mend }) => mend),
    ['revive'],
  )
  await t.throwsAsync(setWish(admin, 'orders-direct', 1000), { message: /is archived/ })
  const applied = await flags('apply')
  t.is(applied.code, 0, applied.err)
  t.like(reportOf(applied), { wish: 0 })
  t.regex(reportOf(applied).done.join(), /revived from the archive; it is off/)
  await untilShare(0)
  await click('POST', `${inDevelopment}/on`)
  await untilShare(2000)
})

test.serial('a token of nobody, and an environment that is not there, are refused', async (t) => {
  const refused = await flags('diff', { UNLEASH_ADMIN_TOKEN: '*:*.a-wrong-secret' })
  t.is(refused.code, 2)
  t.is(JSON.parse(refused.out).error.code, 'flag_server_refused')
  t.false(`${refused.out}${refused.err}`.includes('a-wrong-secret'))
  const elsewhere = await flags('apply', { UNLEASH_ENVIRONMENT: 'staging' })
  t.is(elsewhere.code, 2)
  t.regex(elsewhere.err, /in no environment staging, but in .*development/)
  const pages = await flags('diff', { UNLEASH_URL: unleash.url })
  t.is(pages.code, 2)
  t.regex(pages.err, /ends in \/api/)
})

test.serial(
  'kill -9 of Unleash: the wish grows too old, diff is inconclusive, and both come back',
  async (t) => {
    unleash.process.kill('SIGKILL')
    await unleash.process.exited
    await untilUnknown(/last answered .* s ago, more than 3 s/)
    const away = await flags('diff')
    t.is(away.code, 3)
    t.is(JSON.parse(away.out).error.code, 'flag_server_unavailable')
    await unleash.process.restart()
    await untilShare(2000)
    t.is((await flags('diff')).code, 0)
    t.true(log.count('unleash_answers_again') >= 1)
    t.is(log.count('unleash_refuses_token'), 0)
  },
)
