import { randomInt } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'

import test, { type ExecutionContext } from 'ava'

import { repin } from '../adapters/statuses/repin.ts'
import type { Path } from '../contracts/order.ts'
import { bucketOf, wholeShare } from '../contracts/path-share.ts'
import { migrationSeed } from '../flags/phases.ts'
import { sized } from './full-size.ts'
import {
  expectNothingThroughCrm,
  sellerMoves,
  startStatusesWay,
  type StatusesWay,
  submittedOrders,
  tell,
} from './statuses-fixture.ts'
import { waitUntil } from './wait-until.ts'

/**
 * The share is moved as fast as it goes while statuses come in. The path of an order's statuses is decided at the first one, and
 * all of them take it, whatever is in force by then; the row in the Shop ends right on either path.
 */
let way: StatusesWay

test.before(async () => {
  way = await startStatusesWay({ without: ['shop', 'mes', 'proxy', 'relay', 'courier', 'watch'] })
  await way.ledger.query(`
    CREATE TABLE test_pin_changes (order_id text, was text, became text);
    CREATE FUNCTION test_pin_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
      $$ BEGIN INSERT INTO public.test_pin_changes VALUES (NEW.order_id, OLD.status_path, NEW.status_path); RETURN NULL; END $$;
    CREATE TRIGGER test_pin_changed AFTER UPDATE ON order_ledger FOR EACH ROW
      WHEN (OLD.status_path IS NOT NULL AND (OLD.status_path, OLD.status_epoch) IS DISTINCT FROM (NEW.status_path, NEW.status_epoch))
      EXECUTE FUNCTION test_pin_changed()`)
})
test.after.always(() => way?.stop())

const inFlight = sized(10_000, 80)
const deadlineMs = sized(600_000, 100_000)

// CRM writes what it gets as it comes, several at once: a MES that waits for its last word leaves it no order to confuse.
const next: Readonly<Record<string, string>> = {
  MANUFACTURING_APPROVED: 'MANUFACTURING_STARTED',
  MANUFACTURING_STARTED: 'MANUFACTURING_COMPLETED',
  MANUFACTURING_COMPLETED: 'PACKAGING',
  PACKAGING: 'SHIPPED',
}

function priceOf(orderId: string): string {
  return `${1 + bucketOf(orderId, 2)}.${10 + (bucketOf(orderId, 3) % 90)}`
}

/** The MES and the seller take these orders on, one step each time the Shop's row shows the last one. */
class Life {
  readonly ids: string[] = []
  readonly #last = new Map<string, string>()

  /** False when all of them are where they are to stop. */
  async step(upTo = 'CLOSED'): Promise<boolean> {
    const { rows } = await way.shop.query<{ id: string; status: string }>(
      'SELECT id::text, status FROM public.orders WHERE id = ANY($1::uuid[]) AND status <> $2',
      [this.ids, upTo],
    )
    const fresh = rows.filter(({ id, status }) => this.#last.get(id) !== status)
    for (const { id, status } of fresh) this.#last.set(id, status)
    const of = (wanted: string): string[] =>
      fresh.flatMap(({ id, status }) => (status === wanted ? [id] : []))
    await Promise.all([
      sellerMoves(way, of('PRICE_CALCULATED'), 'approve'),
      sellerMoves(way, of('SHIPPED'), 'close'),
      ...of('SUBMITTED').map((id) => tell(way, id, { price: priceOf(id) })),
      ...fresh.flatMap(({ id, status }) =>
        next[status] === undefined ? [] : [tell(way, id, { status: next[status] })],
      ),
    ])
    return rows.length > 0
  }

  async until(status: string): Promise<void> {
    await waitUntil(
      `${this.ids.length} orders ${status}`,
      async () => !(await this.step(status)),
      deadlineMs,
    )
  }
}

interface Pinned {
  readonly id: string
  readonly path: Path
  readonly epoch: number
}

async function pins(ids: readonly string[]): Promise<Pinned[]> {
  const { rows } = await way.ledger.query<Pinned>(
    'SELECT order_id AS id, status_path AS path, status_epoch AS epoch FROM order_ledger WHERE order_id = ANY($1)',
    [ids],
  )
  return rows
}

async function expectRight(t: ExecutionContext, ids: readonly string[]): Promise<void> {
  const { rows: inShop } = await way.shop.query<{ id: string; row: string }>(
    `SELECT id::text, concat_ws(' ', status, price::text, currency) AS row FROM public.orders WHERE id = ANY($1::uuid[])`,
    [ids],
  )
  t.deepEqual(
    inShop.filter(({ id, row }) => row !== `CLOSED ${priceOf(id)} EUR`),
    [],
  )
  const { rows: late } = await way.shop.query('SELECT * FROM strangler.late_writes')
  t.deepEqual(late, [], 'nobody wrote to an order that is not his')
}

async function expectEachRight(t: ExecutionContext, ids: readonly string[]): Promise<void> {
  await expectRight(t, ids)
  const { rows: mixed } = await way.ledger.query(
    `SELECT l.order_id, l.status_path, array_agg(DISTINCT b.state) AS states, count(*)::int AS events
     FROM order_ledger l JOIN bridge_inbox b ON b.order_id = l.order_id AND b.queue = 'crm.events'
     WHERE l.order_id = ANY($1) GROUP BY 1, 2
     HAVING array_agg(DISTINCT b.state) <> ARRAY[CASE l.status_path WHEN 'direct' THEN 'diverted' ELSE 'forwarded' END] OR count(*) <> 5`,
    [ids],
  )
  t.deepEqual(mixed, [], 'five events of each order, all of them on its path')
  const { rows: changed } = await way.ledger.query('SELECT * FROM test_pin_changes')
  t.deepEqual(changed, [], 'no pin was changed')
  await expectNothingThroughCrm(t, way)
}

test.serial('flips as fast as they go while orders come in', async (t) => {
  t.timeout(110_000)
  const orders = 240
  const life = new Life()
  const shares = new Map<number, number>([[0, 0]])
  const known = await way.ledger.query<{ epoch: number; share: number }>(
    `SELECT epoch, share FROM phase WHERE phase = 'statuses-direct'`,
  )
  for (const { epoch, share } of known.rows) shares.set(epoch, share)
  const over = new AbortController()
  const flipping = (async () => {
    for (let n = 0; !over.signal.aborted; n += 1) {
      const share = n % 2 === 0 ? 0 : randomInt(1, wholeShare + 1)
      const moved = await way.move('statuses-direct', share)
      t.true(moved.complete)
      shares.set(moved.epoch, share)
    }
  })()
  try {
    while (life.ids.length < orders) {
      life.ids.push(...(await submittedOrders(way, 8)))
      await life.step()
      await delay(10)
    }
    await life.until('CLOSED')
  } finally {
    over.abort()
    await flipping
  }
  await expectEachRight(t, life.ids)
  const pinned = await pins(life.ids)
  t.deepEqual(
    pinned.filter(({ id, path, epoch }) => {
      const share = shares.get(epoch)
      const decided = bucketOf(id, migrationSeed) < (share ?? 0) ? 'direct' : 'legacy'
      return share === undefined || path !== decided
    }),
    [],
    'each was decided by the share of its epoch',
  )
  const direct = pinned.filter(({ path }) => path === 'direct').length
  t.true(direct > 0 && direct < orders, 'both paths were taken')
  t.log(`${shares.size} flips, ${direct} of ${orders} orders direct`)
})

test.serial(`rollback with ${inFlight} orders in flight, and forward again`, async (t) => {
  t.timeout(3 * deadlineMs)
  const [first, back, again] = [new Life(), new Life(), new Life()]
  await way.move('statuses-direct', wholeShare)
  first.ids.push(...(await submittedOrders(way, inFlight)))
  await first.until('PRICE_CALCULATED')
  await way.move('statuses-direct', 0)
  back.ids.push(...(await submittedOrders(way, 40)))
  await back.until('MANUFACTURING_STARTED')
  await first.until('PACKAGING')
  await way.move('statuses-direct', wholeShare)
  again.ids.push(...(await submittedOrders(way, 40)))
  await again.until('CLOSED')
  await back.until('CLOSED')
  await way.move('statuses-direct', 0)
  await first.until('CLOSED')
  await way.move('statuses-direct', wholeShare)
  await expectEachRight(t, [...first.ids, ...back.ids, ...again.ids])
  for (const [life, wanted] of [
    [first, 'direct'],
    [back, 'legacy'],
    [again, 'direct'],
  ] as const)
    t.deepEqual(
      (await pins(life.ids)).filter(({ path }) => path !== wanted),
      [],
    )
})

/** The MES tells on while the path of what it tells is changed. */
test.serial(`repin during delivery, ${inFlight} orders in flight: each status once`, async (t) => {
  t.timeout(3 * deadlineMs)
  await way.move('statuses-direct', wholeShare)
  const life = new Life()
  life.ids.push(...(await submittedOrders(way, inFlight)))
  await life.until('PRICE_CALCULATED')
  const act = {
    ledger: way.ledger,
    shop: way.shop,
    broker: () => Promise.resolve(way.broker),
    who: 'test',
    why: 'test',
    withinMs: 1000,
  }
  let moved = 0
  let left = 0
  const stages = {
    MANUFACTURING_STARTED: 'legacy',
    MANUFACTURING_COMPLETED: 'direct',
    PACKAGING: undefined,
    SHIPPED: 'legacy',
    CLOSED: undefined,
  } as const
  for (const [stage, to] of Object.entries(stages)) {
    const living = life.until(stage)
    if (to !== undefined) {
      const result = await repin({ ...act, to }, undefined)
      moved += result.moved
      left += result.left
    }
    await living
  }
  await expectRight(t, life.ids)
  const { rows: told } = await way.ledger.query(
    `SELECT order_id, array_agg(concat_ws(' ', status, state)) FROM bridge_inbox
     WHERE order_id = ANY($1) AND queue = 'crm.events' GROUP BY 1
     HAVING count(*) <> 5 OR bool_or(state NOT IN ('forwarded', 'diverted'))`,
    [life.ids],
  )
  t.deepEqual(told, [], 'five events of each order, each on one way')
  const { rows: twice } = await way.ledger.query(
    `SELECT s.order_id, s.status, s.state, b.state AS "atBridge" FROM status_inbox s JOIN bridge_inbox b ON b.id = s.id
     WHERE s.order_id = ANY($1) AND (b.state = 'forwarded') <> (s.state = 'handed over')`,
    [life.ids],
  )
  t.deepEqual(twice, [], 'CRM got what we handed over, and nothing that we applied')
  const { rows: records } = await way.ledger.query<{
    records: number
    changes: number
    open: number
  }>(
    `SELECT (SELECT count(*)::int FROM handover WHERE order_id = ANY($1)) AS records,
       (SELECT count(*)::int FROM test_pin_changes WHERE order_id = ANY($1)) AS changes,
       (SELECT count(*)::int FROM handover WHERE order_id = ANY($1) AND finished_at IS NULL) AS open`,
    [life.ids],
  )
  t.deepEqual(records, [{ records: moved, changes: moved, open: 0 }], 'a record of each change')
  const paths = await way.ledger.query<{ forwarded: number; diverted: number }>(
    `SELECT count(*) FILTER (WHERE state = 'forwarded')::int AS forwarded, count(*) FILTER (WHERE state = 'diverted')::int AS diverted
     FROM bridge_inbox WHERE order_id = ANY($1) AND queue = 'crm.events'`,
    [life.ids],
  )
  const { forwarded, diverted } = paths.rows[0]!
  t.true(moved > 0 && forwarded > 0 && diverted > 0, 'both ways were taken')
  t.log(
    `${moved} repins, ${left} not at once, of ${life.ids.length} orders; ${diverted} events by us, ${forwarded} by CRM`,
  )
})
