import { randomUUID } from 'node:crypto'

import test, { type ExecutionContext } from 'ava'

import type { NodeProcess } from '../estate/child-process.ts'
import type { ProcessName } from '../estate/estate.ts'
import { staff } from '../estate/people.ts'
import { storeModel, submitOrders } from './shop-orders-by-sql.ts'
import {
  differences,
  expectNothingThroughCrm,
  hears,
  inShop,
  startStatusesWay,
  type StatusesWay,
} from './statuses-fixture.ts'
import { waitUntil } from './wait-until.ts'

/**
 * Statuses at 100 % direct, people at all desks, and a process dies or freezes at each of its boundaries. What the boundary means
 * stands beside it; what must come of it is the same each time: every order's row in the Shop is the MES's.
 */
let way: StatusesWay
let people: ReturnType<typeof staff>

test.before(async () => {
  way = await startStatusesWay({
    without: ['shop', 'proxy'],
    settings: { mes: { MES_PRICE_US_PER_TRIANGLE: '1000' } },
  })
  people = staff(way.estate.pages, { pauseMs: 100 })
})
test.after.always(async () => {
  await people?.stop()
  await way?.stop()
})

async function expectTheSame(t: ExecutionContext, ids: readonly string[]): Promise<void> {
  await waitUntil(`${ids.length} orders closed in the Shop, as in the MES`, async () => {
    const { rows } = await way.shop.query<{ open: number }>(
      `SELECT count(*)::int AS open FROM public.orders WHERE id = ANY($1::uuid[]) AND status <> 'CLOSED'`,
      [ids],
    )
    const wrong = rows[0]!.open > 0 ? [`${rows[0]!.open} open`] : await differences(way, ids)
    return wrong.length === 0 ? true : Promise.reject(new Error(wrong.slice(0, 3).join('; ')))
  })
  t.deepEqual(await differences(way, ids), [])
  await waitUntil('an empty inbox', async () => {
    const { rows } = await way.ledger.query(
      `SELECT FROM status_inbox WHERE state IN ('open', 'waiting')`,
    )
    return rows.length === 0
  })
  await expectNothingThroughCrm(t, way)
}

async function killed(process: NodeProcess): Promise<void> {
  process.kill('SIGKILL')
  await process.exited
}

/** The process lives with this failpoint from now on. */
async function armed(name: ProcessName, failpoints: string): Promise<NodeProcess> {
  await killed(way.estate.process(name))
  return way.estate.launch(name, { FAILPOINTS: failpoints })
}

const applierBoundaries = {
  'applier.locked': 'the events are locked in the ledger, the Shop knows nothing: all of it again',
  'applier.updated': "the Shop's rows are written and not committed: all of it again",
  'applier.written': 'the Shop has committed, the ledger has not: judged again, and a no-op',
  'applier.settled': 'the same, with the verdicts written and not committed',
  'applier.committed': 'all is done, the ring is not finished: it comes again and finds nothing',
}

test.serial('applier killed at every boundary', async (t) => {
  const ids: string[] = []
  for (const [boundary, meaning] of Object.entries(applierBoundaries)) {
    const dying = await armed('applier', `${boundary}=kill@2`)
    ids.push(...(await submitOrders(way.estate, 4)))
    const { signal } = await dying.exited
    t.is(signal, 'SIGKILL', `${boundary}: ${meaning}`)
  }
  await way.estate.launch('applier')
  await expectTheSame(t, ids)
})

// It held the rows of the Shop for as long as it hung, and every seller and every other applier that came for one of them.
test.serial(
  'applier frozen at every boundary: another one goes on, and it harms nothing when it wakes',
  async (t) => {
    const ids: string[] = []
    for (const boundary of ['applier.locked', 'applier.updated', 'applier.settled']) {
      const frozen = await armed('applier', `${boundary}=stop`)
      const stopped = hears(frozen, new RegExp(`failpoint ${boundary.replace('.', '\\.')} stop`))
      const held = await submitOrders(way.estate, 2)
      await stopped
      await way.estate.launch('applier')
      const more = await submitOrders(way.estate, 1)
      await expectTheSame(t, [...held, ...more])
      ids.push(...held, ...more)
      frozen.resume()
      ids.push(...(await submitOrders(way.estate, 1)))
      await expectTheSame(t, ids)
      await killed(frozen)
    }
    await expectTheSame(t, ids)
  },
)

const bridgeBoundaries = {
  'bridge.diverted':
    'it is settled and in the status inbox, not rung for and not acknowledged: it comes again and is the same',
  'bridge.received': 'the message is in the inbox and undecided: it comes again and is decided',
  'bridge.settled':
    'it is in the status inbox and not acknowledged: it comes again and is the same',
}

test.serial(
  'bridge killed at every boundary, and in between; couriers killed meanwhile',
  async (t) => {
    const ids: string[] = []
    for (const [boundary, meaning] of Object.entries(bridgeBoundaries)) {
      const dying = await armed('bridge', `${boundary}=kill@4`)
      ids.push(...(await submitOrders(way.estate, 4)))
      const { signal } = await dying.exited
      t.is(signal, 'SIGKILL', `${boundary}: ${meaning}`)
    }
    await way.estate.launch('bridge')
    for (const boundary of ['courier.sent', 'courier.confirmed']) {
      const courier = await armed('courier', `${boundary}=kill`)
      const dies = hears(courier, /failpoint courier/)
      ids.push(...(await submitOrders(way.estate, 3)))
      await dies
      // Wherever they are.
      await Promise.all([armed('bridge', ''), armed('applier', '')])
    }
    await armed('courier', '')
    await expectTheSame(t, ids)
  },
)

// Thirty minutes, where the others take a moment: longer than any default timeout, and here longer than the test.
test.serial(
  'a price that takes for ever times out nowhere, and the others do not wait for it',
  async (t) => {
    const others = await submitOrders(way.estate, 4)
    // The MES prices one at a time; what is priced already does not wait for it there either.
    await waitUntil('the others priced', async () => {
      const { rows } = await way.shop.query(
        'SELECT FROM public.orders WHERE id = ANY($1::uuid[]) AND price IS NOT NULL',
        [others],
      )
      return rows.length === others.length
    })
    const slow = await submitHuge(200_000)
    await expectTheSame(t, others)
    t.is(await inShop(way, slow), 'SUBMITTED')
    // At last: the same calculation, at another pace.
    const mes = way.estate.process('mes')
    await killed(mes)
    await way.estate.launch('mes', { PORT: `${mes.port}`, MES_PRICE_US_PER_TRIANGLE: '2' })
    await expectTheSame(t, [slow])
    const { rows } = await way.ledger.query(
      'SELECT state, gen, attempts FROM order_ledger WHERE order_id = $1',
      [slow],
    )
    t.deepEqual(rows, [{ state: 'delivered', gen: 0, attempts: 1 }])
  },
)

async function submitHuge(triangles: number): Promise<string> {
  const { key, sha256, bytes } = await storeModel(way.estate, triangles)
  const id = randomUUID()
  await way.shop.query(
    `INSERT INTO public.orders (id, status, material, quantity, model_key, model_sha256, model_bytes)
     VALUES ($1, 'SUBMITTED', 'PLA', 1, $2, $3, $4)`,
    [id, key, sha256, bytes],
  )
  return id
}
