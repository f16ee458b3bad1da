import test, { type ExecutionContext } from 'ava'

import type { ProcessName } from '../estate/estate.ts'
import { withClient } from '../estate/postgres-server.ts'
import {
  arrivesInShop,
  hears,
  inInbox,
  inShop,
  sellerMoves,
  startStatusesWay,
  type StatusesWay,
  submittedOrder,
  submittedOrders,
  tell,
} from './statuses-fixture.ts'
import { waitUntil } from './wait-until.ts'

/**
 * The statuses of an order change their path in mid-life: what the MES has told reaches the Shop once, by whichever way, and who may
 * write the order's row is who carries its statuses.
 */
let way: StatusesWay

test.before(async () => {
  way = await startStatusesWay({ without: ['shop', 'mes', 'proxy', 'relay', 'courier', 'watch'] })
})
test.after.always(() => way?.stop())

const why = ['--why', 'a test', '--json'] as const

async function repin(...args: string[]) {
  return outcomeOf(await way.estate.strangler('repin', ...args, ...why))
}

function outcomeOf({
  code,
  stdout,
  stderr,
}: {
  code: number | null
  stdout: string
  stderr: string
}) {
  return { code, said: JSON.parse(stdout), stderr }
}

/** In the Shop with its price, by our applier. */
async function pricedOrder(): Promise<string> {
  const id = await submittedOrder(way)
  await tell(way, id, { price: '10.25' })
  await arrivesInShop(way, id, 'PRICE_CALCULATED 10.25 EUR')
  await settled(id)
  return id
}

async function approvedOrder(): Promise<string> {
  const id = await pricedOrder()
  await sellerMoves(way, [id], 'approve')
  return id
}

/** An applier has nothing of it in hand. */
async function settled(id: string): Promise<void> {
  await waitUntil('nothing is open', async () =>
    (await inInbox(way, id)).every((each) => !each.startsWith('open')),
  )
}

async function waits(id: string, count: number): Promise<void> {
  await waitUntil(`${count} statuses wait`, async () => {
    const states = await inInbox(way, id)
    return states.filter((each) => each.startsWith('waiting')).length === count
  })
}

function records(id: string) {
  return way.ledger
    .query(
      `SELECT from_path AS "from", to_path AS "to", epoch, who, why, finished_at IS NOT NULL AS finished, phase
       FROM handover WHERE order_id = $1 ORDER BY id`,
      [id],
    )
    .then(({ rows }) => rows)
}

async function atBridge(id: string): Promise<string[]> {
  const { rows } = await way.ledger.query<{ row: string }>(
    `SELECT concat_ws(' ', status, state) AS row FROM bridge_inbox WHERE order_id = $1 AND queue = 'crm.events' ORDER BY id`,
    [id],
  )
  return rows.map(({ row }) => row)
}

function untilAtBridge(id: string, ...wanted: string[]): Promise<true> {
  return waitUntil(`${wanted.join(', ')} at the bridge`, async () => {
    const rows = await atBridge(id)
    return wanted.every((each, index) => rows.at(index - wanted.length) === each)
      ? true
      : Promise.reject(new Error(rows.join(', ')))
  })
}

/** What CRM's queue holds of the order while CRM is away, in the order in which it will get it. */
async function inCrmsQueue(id: string): Promise<string[]> {
  return withClient(way.estate.databases.broker, async (client) => {
    const { rows } = await client.query<{ status: string }>(
      `SELECT convert_from(body, 'UTF8')::jsonb ->> 'status' AS status FROM amq.message
       WHERE queue = 'crm.events' AND convert_from(body, 'UTF8') LIKE '%' || $1 || '%' ORDER BY id`,
      [id],
    )
    return rows.map(({ status }) => status)
  })
}

async function expectNoLateWrite(t: ExecutionContext, ids: readonly string[]): Promise<void> {
  const { rows } = await way.shop.query(
    'SELECT * FROM strangler.late_writes WHERE order_id = ANY($1::uuid[])',
    [ids],
  )
  t.deepEqual(rows, [], 'nothing of CRM was kept from the Shop')
}

async function restarted(
  name: ProcessName,
  settings: Readonly<Record<string, string>> = {},
): Promise<void> {
  const running = way.estate.process(name)
  running.kill('SIGKILL')
  await running.exited
  await way.estate.launch(name, settings)
}

/** The rest of the way through CRM, each step when the Shop shows the last one. */
async function shippedThroughCrm(t: ExecutionContext, id: string, from: string): Promise<void> {
  const steps = ['MANUFACTURING_STARTED', 'MANUFACTURING_COMPLETED', 'PACKAGING', 'SHIPPED']
  for (const status of steps.slice(steps.indexOf(from))) {
    await tell(way, id, { status })
    await arrivesInShop(way, id, `${status} 10.25 EUR`)
  }
  await expectNoLateWrite(t, [id])
}

test.serial(
  'to legacy: CRM carries and writes what comes, and it is told who wanted it',
  async (t) => {
    const id = await approvedOrder()
    const { code, said } = await repin(id, '--who', 'ann')
    t.is(code, 0)
    t.like(said, { moved: 1, carriedOn: 0, left: 0, to: 'legacy', who: 'ann', why: 'a test' })
    const { rows } = await way.ledger.query(
      `SELECT status_path, status_reason ->> 'rule' AS rule FROM order_ledger WHERE order_id = $1`,
      [id],
    )
    t.deepEqual(rows, [{ status_path: 'legacy', rule: 'repinned' }])
    const [record] = await records(id)
    t.like(record, {
      from: 'direct',
      to: 'legacy',
      who: 'ann',
      finished: true,
      phase: 'statuses-direct',
    })

    const again = await repin(id)
    t.like(again, { code: 0, said: { moved: 0, left: 0 } }, 'it is there already')
    await shippedThroughCrm(t, id, 'MANUFACTURING_STARTED')
    t.deepEqual(await atBridge(id), [
      'PRICE_CALCULATED diverted',
      'MANUFACTURING_STARTED forwarded',
      'MANUFACTURING_COMPLETED forwarded',
      'PACKAGING forwarded',
      'SHIPPED forwarded',
    ])
    const told = await way.estate.strangler('order', id)
    t.regex(told.stdout, /statuses legacy: epoch \d+, rule "repinned"/)
    t.regex(
      told.stdout,
      /its statuses were handed over from direct to legacy by ann at .*: "a test"/,
    )
    const reasons = await way.estate.strangler('why', id)
    t.regex(
      reasons.stdout,
      /its statuses: legacy, by a repin[^]*handed over from direct to legacy by ann/,
    )
  },
)

test.serial('what waits in the inbox goes to CRM first, and in its order', async (t) => {
  // The seller's approval never reached the Shop: our rules wait for it, CRM does not.
  const id = await pricedOrder()
  await way.estate.process('crm').terminate()
  await tell(way, id, { status: 'MANUFACTURING_STARTED' })
  await tell(way, id, { status: 'MANUFACTURING_COMPLETED' })
  await waits(id, 2)
  t.like(await repin(id), { code: 0, said: { moved: 1, statusesToCrm: 2 } })
  await tell(way, id, { status: 'PACKAGING' })
  await untilAtBridge(id, 'PACKAGING forwarded')
  t.deepEqual(await inCrmsQueue(id), [
    'MANUFACTURING_STARTED',
    'MANUFACTURING_COMPLETED',
    'PACKAGING',
  ])
  t.deepEqual((await inInbox(way, id)).slice(1), ['handed over: repinned', 'handed over: repinned'])
  await way.estate.launch('crm')
  await arrivesInShop(way, id, 'PACKAGING 10.25 EUR')
  await expectNoLateWrite(t, [id])
  const { stdout } = await way.estate.strangler('order', id)
  t.regex(stdout, /MANUFACTURING_STARTED +- +CRM /)
})

test.serial(
  'a parked status is a person’s to decide first; what can’t be repinned says why',
  async (t) => {
    const id = await pricedOrder()
    await tell(way, id, { status: 'NO_STATUS_OF_OURS' })
    const parked = await waitUntil('it is parked', async () => {
      const { rows } = await way.ledger.query<{ id: string }>(
        `SELECT id::text FROM status_inbox WHERE order_id = $1 AND state = 'parked'`,
        [id],
      )
      return rows[0]?.id
    })
    const stays = await repin(id, '--drain', '0s')
    t.like(stays, { code: 1, said: { moved: 0, left: 1, leftFor: ['parked'] } })
    t.regex(stays.said.notYet[0].says, new RegExp(`status ${parked} is parked`))
    await way.estate.strangler('statuses', 'drop', parked, '--why', 'a test')
    t.like(await repin(id), { code: 0, said: { moved: 1 } })

    const unknown = await repin('00000000-0000-4000-8000-000000000000')
    t.like(unknown, { code: 2, said: { error: { code: 'not_found' } } })
    const fresh = await repin(await submittedOrder(way))
    t.like(fresh, { code: 2, said: { error: { code: 'refused' } } })
    t.regex(fresh.said.error.message, /no status of .* has come/)

    const shipped = await approvedOrder()
    for (const status of [
      'MANUFACTURING_STARTED',
      'MANUFACTURING_COMPLETED',
      'PACKAGING',
      'SHIPPED',
    ])
      await tell(way, shipped, { status })
    await arrivesInShop(way, shipped, 'SHIPPED 10.25 EUR')
    await settled(shipped)
    for (const to of ['legacy', 'direct']) {
      const terminal = await repin(shipped, '--to', to)
      t.is(terminal.code, to === 'legacy' ? 2 : 0, `${to}: ${JSON.stringify(terminal.said)}`)
    }
    t.deepEqual(await records(shipped), [])
    const strange = await way.estate.strangler('repin', id, '--to', 'crm', '--why', 'a test')
    t.is(strange.code, 2)
    t.is((await way.estate.strangler('repin', id)).code, 2, 'without a reason')
  },
)

const boundaries = {
  'repin.recorded': 'CRM is told nothing yet: the Shop DB would not let it write',
  'repin.fenced': 'the Shop DB lets CRM write, and CRM is told nothing yet',
  'repin.finished': 'CRM has it, and the command could not say so',
}

for (const [boundary, meaning] of Object.entries(boundaries)) {
  test.serial(`killed at ${boundary}: ${meaning}; said again, it ends`, async (t) => {
    const id = await pricedOrder()
    await tell(way, id, { status: 'MANUFACTURING_STARTED' })
    await waits(id, 1)
    await t.throwsAsync(
      way.estate.stranglerWith({ FAILPOINTS: `${boundary}=kill` }, 'repin', id, ...why),
      // It may have told before that it waits for an applier.
      { message: new RegExp(`SIGKILL:\n(?:[{].*[}]\n)*failpoint ${boundary} `) },
    )
    await tell(way, id, { status: 'MANUFACTURING_COMPLETED' })
    const finished = boundary === 'repin.finished'
    await untilAtBridge(id, `MANUFACTURING_COMPLETED ${finished ? 'forwarded' : 'held'}`)
    if (!finished) {
      t.is(await inShop(way, id), 'PRICE_CALCULATED 10.25 EUR')
      const { stdout } = await way.estate.strangler('order', id)
      t.regex(stdout, /not finished: say the same command again/)
    }
    const { code, said } = await repin(id)
    t.is(code, 0)
    t.like(said, { moved: 0, carriedOn: finished ? 0 : 1, left: 0 })
    await arrivesInShop(way, id, 'MANUFACTURING_COMPLETED 10.25 EUR')
    t.deepEqual(await atBridge(id), [
      'PRICE_CALCULATED diverted',
      'MANUFACTURING_STARTED forwarded',
      'MANUFACTURING_COMPLETED forwarded',
    ])
    t.is((await records(id)).length, 1)
    await shippedThroughCrm(t, id, 'PACKAGING')
  })
}

test.serial('two people at once, over the same orders: each is moved once', async (t) => {
  const ids = await submittedOrders(way, 60)
  for (const id of ids) await tell(way, id, { price: '10.25' })
  await waitUntil('each has its path', async () => {
    const { rows } = await way.ledger.query(
      'SELECT FROM order_ledger WHERE order_id = ANY($1::text[]) AND status_path IS NOT NULL',
      [ids],
    )
    return rows.length === ids.length
  })
  const results = await Promise.all([repin('all'), repin('all'), repin(ids[30]!)])
  t.deepEqual(
    results.map(({ code }) => code),
    [0, 0, 0],
    JSON.stringify(results),
  )
  const { rows } = await way.ledger.query<{ n: number; finished: number }>(
    `SELECT count(*)::int AS n, count(finished_at)::int AS finished FROM handover WHERE order_id = ANY($1)`,
    [ids],
  )
  t.deepEqual(rows, [{ n: ids.length, finished: ids.length }])
  const moved = results.reduce((sum, { said }) => sum + said.moved, 0)
  t.true(moved >= ids.length, 'and those of earlier tests')
  for (const id of ids) await arrivesInShop(way, id, 'PRICE_CALCULATED 10.25 EUR')
  await sellerMoves(way, ids, 'approve')
  for (const id of ids) await tell(way, id, { status: 'MANUFACTURING_STARTED' })
  for (const id of ids) await arrivesInShop(way, id, 'MANUFACTURING_STARTED 10.25 EUR')
  await expectNoLateWrite(t, ids)
})

test.serial(
  'an applier that holds the rows is waited for; one that wakes too late changes nothing',
  async (t) => {
    const id = await pricedOrder()
    await tell(way, id, { status: 'MANUFACTURING_STARTED' })
    await waits(id, 1)
    const nextTry = (at: string) =>
      way.ledger.query(
        `UPDATE status_inbox SET next_try_at = $2::timestamptz WHERE order_id = $1 AND state = 'waiting'`,
        [id, at],
      )
    await nextTry('infinity')
    await restarted('applier', { FAILPOINTS: 'applier.locked=stop', HOLD_LEDGER_MS: '600000' })
    t.teardown(() => restarted('applier'))
    const frozen = way.estate.process('applier')
    const stopped = hears(frozen, /failpoint applier\.locked stop/)
    await nextTry('now')
    await stopped
    const held = await repin(id, '--drain', '0s')
    t.like(held, { code: 3, said: { moved: 0, leftFor: ['in hand'] } })
    // As its server does after a while: the transaction is gone, what it has read of the order is still in its memory.
    await way.ledger.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
       WHERE datname = current_database() AND application_name = 'strangler-applier'`,
    )
    t.like(await repin(id), { code: 0, said: { moved: 1, statusesToCrm: 1 } })
    await arrivesInShop(way, id, 'MANUFACTURING_STARTED 10.25 EUR')
    await sellerMoves(way, [id], 'approve')
    const waking = hears(frozen, /round_failed/)
    frozen.resume()
    await waking
    await shippedThroughCrm(t, id, 'MANUFACTURING_COMPLETED')
    const { rows } = await way.shop.query(
      `SELECT path FROM strangler.order_fence WHERE order_id = $1`,
      [id],
    )
    t.deepEqual(rows, [{ path: 'legacy' }], 'the fence is not raised again')
  },
)

test.serial(
  'a bridge that was frozen with the old pin in its hand takes the new way',
  async (t) => {
    const ids = [await approvedOrder(), await approvedOrder()]
    await restarted('bridge', { FAILPOINTS: 'bridge.pinned=stop' })
    const bridge = way.estate.process('bridge')
    const frozen = hears(bridge, /failpoint bridge\.pinned stop/)
    for (const id of ids) await tell(way, id, { status: 'MANUFACTURING_STARTED' })
    await frozen
    for (const id of ids) t.like(await repin(id), { code: 0, said: { moved: 1 } })
    bridge.resume()
    for (const id of ids) {
      await shippedThroughCrm(t, id, 'MANUFACTURING_COMPLETED')
      t.deepEqual((await atBridge(id)).slice(1, 3), [
        'MANUFACTURING_STARTED forwarded',
        'MANUFACTURING_COMPLETED forwarded',
      ])
      t.is((await inInbox(way, id)).length, 1, 'nothing of it came into the inbox')
    }
  },
)

test.serial('with the bridge down: what was told meanwhile comes after what waited', async (t) => {
  const id = await pricedOrder()
  await tell(way, id, { status: 'MANUFACTURING_STARTED' })
  await waits(id, 1)
  await Promise.all([
    way.estate.process('bridge').terminate(),
    way.estate.process('crm').terminate(),
  ])
  t.like(await repin(id), { code: 0, said: { moved: 1, statusesToCrm: 1 } })
  await tell(way, id, { status: 'MANUFACTURING_COMPLETED' })
  await way.estate.launch('bridge')
  await untilAtBridge(id, 'MANUFACTURING_STARTED forwarded', 'MANUFACTURING_COMPLETED forwarded')
  t.deepEqual(await inCrmsQueue(id), ['MANUFACTURING_STARTED', 'MANUFACTURING_COMPLETED'])
  await way.estate.launch('crm')
  await shippedThroughCrm(t, id, 'PACKAGING')
})

test.serial(
  'to direct, and back, and to direct again; never while CRM has something to write',
  async (t) => {
    const id = await pricedOrder()
    t.is((await repin(id)).code, 0)
    await way.estate.process('crm').terminate()
    await tell(way, id, { price: '11.50' })
    await untilAtBridge(id, 'PRICE_CALCULATED forwarded')
    const early = await repin(id, '--to', 'direct', '--drain', '0s')
    t.like(early, { code: 3, said: { moved: 0, leftFor: ['under way to CRM'] } })
    await way.estate.launch('crm')
    t.like(await repin(id, '--to', 'direct'), { code: 0, said: { moved: 1 } })
    t.is(await inShop(way, id), 'PRICE_CALCULATED 11.50 EUR', 'CRM had written it before')

    await sellerMoves(way, [id], 'approve')
    await tell(way, id, { status: 'MANUFACTURING_STARTED' })
    await arrivesInShop(way, id, 'MANUFACTURING_STARTED 11.50 EUR')
    await way.crm.query(`UPDATE orders SET status = 'PRICE_CALCULATED' WHERE id = $1`, [id])
    t.is(await inShop(way, id), 'MANUFACTURING_STARTED 11.50 EUR', 'the fence is up again')
    await settled(id)

    t.like(await repin(id), { code: 0, said: { moved: 1 } })
    await tell(way, id, { status: 'MANUFACTURING_COMPLETED' })
    await untilAtBridge(id, 'MANUFACTURING_COMPLETED forwarded')
    await arrivesInShop(way, id, 'MANUFACTURING_COMPLETED 11.50 EUR')
    t.like(await repin(id, '--to', 'direct'), { code: 0, said: { moved: 1 } })
    await tell(way, id, { status: 'PACKAGING' })
    await arrivesInShop(way, id, 'PACKAGING 11.50 EUR')
    t.deepEqual((await atBridge(id)).slice(-3), [
      'MANUFACTURING_STARTED diverted',
      'MANUFACTURING_COMPLETED forwarded',
      'PACKAGING diverted',
    ])
    const epochs = (await records(id)).map(({ epoch, to }) => [epoch, to])
    const first = epochs[0]![0]
    t.deepEqual(epochs, [
      [first, 'legacy'],
      [first + 1, 'direct'],
      [first + 2, 'legacy'],
      [first + 3, 'direct'],
    ])
  },
)

test.serial(
  'the way out: a direct order that is never shipped keeps the bridge in, until it is repinned',
  async (t) => {
    const id = await approvedOrder()
    const waiting = await pricedOrder()
    await tell(way, waiting, { status: 'MANUFACTURING_STARTED' })
    await waits(waiting, 1)
    // There is no MES here, so the receipt differs; it names what waits all the same.
    const rollback = await way.estate.strangler(
      'rollback',
      'statuses-direct',
      '--drain',
      '0s',
      '--settle',
      '0s',
      ...why,
    )
    const { unsettled } = JSON.parse(rollback.stdout).receipt
    t.is(unsettled.length, 1)
    t.regex(
      unsettled[0],
      new RegExp(`of ${waiting} \\(MANUFACTURING_STARTED\\) waits: not_approved`),
    )
    const remove = () => way.estate.strangler('bridge', 'remove', '--queue', 'crm.events')
    const refused = await remove()
    t.is(refused.code, 2)
    t.regex(refused.stderr, /1?\d with statuses still to come; .*strangler repin/)
    await t.throwsAsync(
      way.estate.stranglerWith({ FAILPOINTS: 'repin.recorded=kill' }, 'repin', 'all', ...why),
      { message: /failpoint repin\.recorded/ },
    )
    t.regex((await remove()).stderr, /with statuses still to come/, 'nor while a repin is open')
    await way.estate.launch('reconciler')
    await waitUntil('the reconciler has carried it on', async () =>
      (await records(waiting)).every(({ finished }) => finished),
    )
    await way.estate.process('reconciler').terminate()
    t.like(await repin('all'), { code: 0, said: { left: 0 } })
    const removed = await remove()
    t.is(removed.code, 0, removed.stderr)
    await shippedThroughCrm(t, id, 'MANUFACTURING_STARTED')
    const back = await repin('all', '--to', 'direct')
    t.like(back, { code: 2, said: { error: { code: 'refused' } } })
  },
)
