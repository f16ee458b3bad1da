import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import test, { type ExecutionContext } from 'ava'

import { waitUntil } from '../../test/wait-until.ts'
import type { PhaseId } from '../phases.ts'
import {
  type Behaviour,
  hangs,
  keptLog,
  type KeptLog,
  rollout,
  says,
  startUnleashStub,
  tells,
  type UnleashStub,
} from './test-unleash-stub.ts'
import {
  type UnleashWish,
  unleashWish,
  type UnleashWishOptions,
  type Wish,
} from './unleash-wish.ts'

const token = 'default:development.a-secret-of-this-test'
const ours = 'orders-direct'

interface Bed {
  readonly stub: UnleashStub
  readonly wish: UnleashWish
  readonly log: KeptLog
  readonly directory: string
  /** Waits for a wish of that kind. */
  readonly until: (what: string, is: (wish: Wish) => boolean, phase?: PhaseId) => Promise<Wish>
  readonly untilShare: (share: number) => Promise<Wish>
  readonly untilUnknown: (reason: RegExp) => Promise<Wish>
}

async function bed(
  t: ExecutionContext,
  behaviour: Behaviour,
  options: Partial<UnleashWishOptions> = {},
): Promise<Bed> {
  const stub = await startUnleashStub(behaviour)
  const directory = options.backupDirectory ?? (await mkdtemp(join(tmpdir(), 'strangler-wish-')))
  const log = keptLog()
  const wish = unleashWish({
    url: stub.url,
    token,
    backupDirectory: directory,
    refreshIntervalMs: 40,
    requestTimeoutMs: 1000,
    renewAfterMs: 300,
    // Long against the stalls of a busy machine: some tests look that the wish still stands.
    ageLimitMs: 3000,
    log,
    ...options,
  })
  t.teardown(async () => {
    await wish.stop()
    await stub.close()
    await rm(directory, { recursive: true, force: true })
  })
  const until: Bed['until'] = (what, is, phase = ours) =>
    waitUntil(what, async () => {
      const now = wish.of(phase)
      if (is(now)) return now
      throw new Error(JSON.stringify(now))
    })
  return {
    stub,
    wish,
    log,
    directory,
    until,
    untilShare: async (share) => {
      const found = await until(
        `a share of ${share}`,
        (now) => now.state === 'known' && now.share === share,
      )
      t.pass()
      return found
    },
    untilUnknown: async (reason) => {
      const found = await until(
        `unknown because ${String(reason)}`,
        (now) => now.state === 'unknown' && reason.test(now.reason),
      )
      t.pass()
      return found
    },
  }
}

// First and alone: it sets the clock of the whole process.
test.serial('a wall clock that jumps, here or at the server, changes nothing', async (t) => {
  const skewed = tells([rollout(ours, 10)], { date: 'Thu, 01 Jan 1998 00:00:00 GMT' })
  const { untilShare, untilUnknown, wish, stub } = await bed(t, skewed)
  await wish.start()
  await untilShare(1000)
  const real = Date.now
  t.teardown(() => {
    Date.now = real
  })
  for (const years of [10, -10]) {
    Date.now = () => real() + years * 31_536_000_000
    const asked = stub.asked
    await waitUntil('more questions', async () => stub.asked > asked + 5)
    t.like(wish.of(ours), { state: 'known', share: 1000 })
  }
  await stub.close()
  await untilUnknown(/last answered .* s ago, more than 3 s/)
})

test('the wish follows the flag: off, a rollout, the default, off again', async (t) => {
  const off = { ...rollout(ours, 25), enabled: false }
  const { wish, stub, untilShare, until } = await bed(
    t,
    tells([off, rollout('statuses-direct', 3)]),
  )
  await wish.start()
  await untilShare(0)
  await until(
    'the other phase',
    (now) => now.state === 'known' && now.share === 300,
    'statuses-direct',
  )
  stub.behave(tells([rollout(ours, 25)]))
  await untilShare(2500)
  stub.behave(tells([{ name: ours, enabled: true, strategies: [{ name: 'default' }] }]))
  await untilShare(10_000)
  stub.behave(tells([off]))
  t.like(await untilShare(0), { state: 'known' })
})

test('a flag that says no share is unknown, with the reason', async (t) => {
  const two = {
    ...rollout(ours, 10),
    strategies: [...rollout(ours, 10).strategies, { name: 'default' }],
  }
  const { wish, stub, untilUnknown, untilShare } = await bed(t, tells([two]))
  await wish.start()
  await untilUnknown(/the flag orders-direct says no share: it has 2 strategies/)
  stub.behave(tells([{ name: ours, enabled: 'yes', strategies: 7 }]))
  await untilUnknown(/in a form that we do not know/)
  stub.behave(tells([rollout(ours, 10)]))
  await untilShare(1000)
})

test('down at the start: the start succeeds, the wish is unknown, and comes by itself', async (t) => {
  const { wish, stub, untilShare, log } = await bed(t, tells([rollout(ours, 10)]))
  await stub.close()
  await wish.start()
  const first = wish.of(ours)
  t.like(first, { state: 'unknown', ageMs: undefined })
  t.true(first.state === 'unknown' && /has not answered since the start/.test(first.reason))
  await waitUntil('the outage to be told', async () => log.count('unleash_silent') === 1)
  await stub.openAgain()
  await untilShare(1000)
  t.true(log.count('unleash_answers_again') >= 1)
})

test('a server that takes questions and never answers: unknown, and no question outlives the stop', async (t) => {
  const { wish, stub, untilUnknown, untilShare, log } = await bed(t, hangs)
  await wish.start()
  await untilUnknown(/not answered since the start: it lets 300 ms pass/)
  await waitUntil('a few clients', async () => stub.clients >= 4)
  t.is(log.count('unleash_silent'), 1)
  t.true((await stub.connections()) <= 2)
  stub.behave(tells([rollout(ours, 10)]))
  await untilShare(1000)
  stub.behave(hangs)
  const asked = stub.asked
  await waitUntil('a question without an answer', async () => stub.asked > asked)
  await wish.stop()
  await waitUntil('its connections to be closed', async () => (await stub.connections()) === 0)
  t.like(wish.of(ours), { state: 'unknown' })
})

for (const status of [401, 403]) {
  test(`${status}: unknown at once, told once as an error, and over by itself`, async (t) => {
    const { wish, stub, untilShare, untilUnknown, log } = await bed(t, tells([rollout(ours, 10)]), {
      ageLimitMs: 600_000,
    })
    await wish.start()
    await untilShare(1000)
    stub.behave(says(status))
    const refused = await untilUnknown(/refuses us: it answers 40\d: UNLEASH_CLIENT_TOKEN is not/)
    t.true(refused.ageMs !== undefined)
    // unleash-client itself has stopped asking for good.
    const { clients } = stub
    await waitUntil('new clients', async () => stub.clients >= clients + 2)
    t.like(wish.of(ours), { state: 'unknown' })
    t.is(log.count('unleash_refuses_token'), 1)
    t.is(log.lines.filter(({ level }) => level === 'error').length, 1)
    stub.behave(tells([rollout(ours, 0)]))
    await untilShare(0)
    t.true(log.count('unleash_answers_again') >= 1)
    t.false(JSON.stringify(log.lines).includes('a-secret-of-this-test'))
  })
}

test('401 at the start is unknown, and no share', async (t) => {
  const { wish, stub, untilShare, untilUnknown } = await bed(t, says(401))
  await wish.start()
  t.is((await untilUnknown(/refuses us: it answers 401/)).ageMs, undefined)
  stub.behave(tells([rollout(ours, 10)]))
  await untilShare(1000)
})

for (const status of [500, 404]) {
  test(`${status}: the wish stands until it is too old, then it is unknown with the reason`, async (t) => {
    // Three questions of the client, with pauses of a second, go before it says what it was answered.
    const { wish, stub, untilShare, untilUnknown } = await bed(t, tells([rollout(ours, 10)]), {
      renewAfterMs: 5000,
    })
    await wish.start()
    await untilShare(1000)
    const { asked } = stub
    stub.behave(says(status))
    await waitUntil('an answer of that kind', async () => stub.asked > asked)
    t.like(wish.of(ours), { state: 'known', share: 1000 })
    await untilUnknown(new RegExp(`last answered .* s ago, more than 3 s: it answers ${status}`))
    stub.behave(tells([rollout(ours, 20)]))
    await untilShare(2000)
  })
}

test('a server that is gone: the wish stands until it is too old', async (t) => {
  const { wish, stub, untilShare, untilUnknown } = await bed(t, tells([rollout(ours, 10)]))
  await wish.start()
  await untilShare(1000)
  await stub.close()
  t.like(wish.of(ours), { state: 'known', share: 1000 })
  await untilUnknown(/last answered .* s ago, more than 3 s/)
  await stub.openAgain()
  await untilShare(1000)
})

test('text that is no JSON, and JSON that is no list, are no answers', async (t) => {
  const garbage: Behaviour[] = [
    says(200, '<html>Please log in</html>', { etag: '"1"' }),
    says(200, '{"version":2,"features":[{"na', { etag: '"2"' }),
    says(200, '{"flags":[]}', { etag: '"3"' }),
    says(200, 'null', { etag: '"4"' }),
  ]
  const { wish, stub, untilShare, untilUnknown, log } = await bed(t, garbage[0]!, {
    ageLimitMs: 700,
  })
  await wish.start()
  await untilUnknown(/has not answered since the start: .*JSON/)
  for (const each of garbage) {
    stub.behave(tells([rollout(ours, 10)]))
    await untilShare(1000)
    stub.behave(each)
    await untilUnknown(/last answered/)
  }
  t.true(log.count('unleash_silent') >= garbage.length)
})

test('a list that can not be read, and then 304 for ever, is not taken for the list before it', async (t) => {
  // The client keeps the ETag of what it could not read. Its 304s would make the old 10 % look fresh for ever.
  const { wish, stub, untilShare } = await bed(t, tells([rollout(ours, 10)]))
  await wish.start()
  await untilShare(1000)
  const next = tells([rollout(ours, 25)])
  let unreadable = 0
  stub.behave((request, response) => {
    const has = request.headers['if-none-match']
    if (has === '"unreadable"') response.writeHead(304).end()
    else if (has === undefined) next(request, response)
    else {
      unreadable += 1
      response.writeHead(200, { etag: '"unreadable"' }).end('{"version":2,"features":[null]}')
    }
  })
  await untilShare(2500)
  t.true(unreadable > 0)
})

test('304 to the first question is no answer', async (t) => {
  const { wish, untilUnknown } = await bed(t, says(304))
  await wish.start()
  await untilUnknown(/has not answered since the start: it answers 304 before it has told a list/)
})

test('304s keep a wish fresh', async (t) => {
  const { wish, stub, untilShare } = await bed(t, tells([rollout(ours, 10)]), {
    renewAfterMs: 60_000,
  })
  await wish.start()
  await untilShare(1000)
  const { asked } = stub
  let unknown = 0
  await waitUntil('far more questions than the age limit lasts', async () => {
    if (wish.of(ours).state === 'unknown') unknown += 1
    return stub.asked > asked + 100
  })
  t.is(unknown, 0)
  t.is(stub.clients, 1)
})

test('an empty list is unknown, not 0 %', async (t) => {
  const { wish, stub, untilShare, untilUnknown } = await bed(t, tells([]))
  await wish.start()
  const empty = await untilUnknown(/an empty list of flags: the token is of another environment/)
  t.true(empty.ageMs !== undefined)
  stub.behave(tells([rollout(ours, 10)]))
  await untilShare(1000)
  stub.behave(tells([]))
  await untilUnknown(/an empty list of flags/)
})

test('a flag that was deleted is unknown, not 0 %', async (t) => {
  const { wish, stub, untilShare, untilUnknown } = await bed(t, tells([rollout(ours, 10)]))
  await wish.start()
  await untilShare(1000)
  stub.behave(tells([rollout('statuses-direct', 10), rollout('somebody-elses', 10)]))
  await untilUnknown(/none of the name orders-direct: "strangler flags apply"/)
})

test('what only the backup says is no wish, but people are told of it', async (t) => {
  const { wish, stub, untilShare, untilUnknown, log } = await bed(t, tells([rollout(ours, 10)]))
  await wish.start()
  await untilShare(1000)
  await wish.stop()
  await stub.close()
  const again = unleashWish({ url: stub.url, token, backupDirectory: await backupOf(t), log })
  t.teardown(() => again.stop())
  await again.start()
  await waitUntil('the backup to be read', async () => {
    const now = again.of(ours)
    return now.state === 'unknown' && /its last word before this start was 10 %/.test(now.reason)
  })
  t.is(again.of(ours).ageMs, undefined)
  t.true((await untilUnknown(/the reader is stopped/)).state === 'unknown')

  async function backupOf(context: ExecutionContext): Promise<string> {
    const directory = await mkdtemp(join(tmpdir(), 'strangler-wish-'))
    context.teardown(() => rm(directory, { recursive: true, force: true }))
    const list = { version: 2, features: [rollout(ours, 10)] }
    await writeFile(join(directory, 'flags.json'), JSON.stringify(list))
    return directory
  }
})

test('a backup that is torn is told as such, and whole again after the next answer', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'strangler-wish-'))
  const file = join(directory, 'flags.json')
  await writeFile(file, '{"version":2,"features":[{"name":"orders-di')
  const { wish, stub, untilShare, untilUnknown, log } = await bed(t, hangs, {
    backupDirectory: directory,
  })
  await wish.start()
  await untilUnknown(/not answered since the start.*; the backup of what it said before is torn/)
  await waitUntil('a second client', async () => stub.clients >= 2)
  t.is(log.count('unleash_backup_torn'), 1)
  stub.behave(tells([rollout(ours, 10)]))
  await untilShare(1000)
  await waitUntil('a whole backup', async () => {
    const read: { features: { name: string }[] } = JSON.parse(await readFile(file, 'utf8'))
    return read.features[0]?.name === ours
  })
})

test('a backup that can not be written costs the backup alone', async (t) => {
  const directory = join(await mkdtemp(join(tmpdir(), 'strangler-wish-')), 'a-file')
  await writeFile(directory, '')
  const { wish, stub, untilShare, log } = await bed(t, tells([rollout(ours, 10)]), {
    backupDirectory: directory,
  })
  await wish.start()
  await untilShare(1000)
  stub.behave(tells([rollout(ours, 20)]))
  await untilShare(2000)
  t.is(log.count('unleash_backup_not_written'), 1)
})

test('start and stop from many callers at once', async (t) => {
  const { wish, stub, untilShare } = await bed(t, tells([rollout(ours, 10)]))
  for (let round = 0; round < 20; round += 1) {
    const calls = Array.from({ length: 6 }, (_, index) =>
      index % 2 === 0 ? wish.start() : wish.stop(),
    )
    await Promise.all(calls)
  }
  await wish.stop()
  await waitUntil('no connection to be open', async () => (await stub.connections()) === 0)
  await wish.start()
  await untilShare(1000)
})

test('an address that is not that of the API is refused before the start', (t) => {
  for (const url of ['http://127.0.0.1:4242', 'http://127.0.0.1:4242/', 'https://unleash/home']) {
    t.throws(
      () => unleashWish({ url, token, backupDirectory: '/nowhere', log: keptLog() }),
      { message: /UNLEASH_URL expected to be the address of the API/ },
      url,
    )
  }
  t.notThrows(() =>
    unleashWish({ url: 'https://u/x/api/', token, backupDirectory: '/nowhere', log: keptLog() }),
  )
})
