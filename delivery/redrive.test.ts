import test from 'ava'

import { giveBackToCrm } from '../adapters/wire/shop-orders.ts'
import { hour, listed, startPlantation } from './reconcile-under-test.ts'
import type { StatusPorts } from './redrive-status.ts'
import { redrive } from './redrive.ts'
import type { RedrivePorts, Redriven } from './redrive.ts'

/** Of orders alone: no status is asked for. */
const noStatuses: StatusPorts = {
  eventsQueue: 'crm.events',
  mayBeUnderwayToCrm: () => Promise.reject(new Error('asked for a status')),
  now: () => Promise.reject(new Error('asked for a status')),
  readEvent: () => ({ status: undefined, price: undefined }),
}

const estate = await startPlantation()
const { ledger, shop, plant, differences } = estate
test.after.always(() => estate.stop())
test.beforeEach(() => estate.clear())

test.serial('a redrive acts on proof, is recorded, and leaves no difference', async (t) => {
  const byCrm = await plant({ path: 'legacy', mail: [], mesStatus: undefined, state: 'accepted' })
  const deleted = await plant({ mesStatus: undefined })
  const quiet = await plant({ mesStatus: undefined, state: 'accepted' })
  const approved = await plant({
    status: 'MANUFACTURING_APPROVED',
    mesStatus: 'PRICE_CALCULATED',
    price: '1.00',
  })
  const doubtful = await plant({ mesStatus: undefined, state: 'in_doubt' })
  const sent: string[] = []
  const ports: RedrivePorts = {
    statuses: noStatuses,
    ordersQueue: 'mes.orders',
    mayBeUnderway: async () => 'no',
    isInMes: async () => false,
    isPastSubmitted: async () => false,
    giveBackToCrm: async (id) => (await giveBackToCrm(shop, [id])).length === 1,
    sendDecision: async ({ orderId, status }) => void sent.push(`${orderId} ${status}`),
  }
  for (const difference of await differences()) {
    const { remedy } = difference
    if (remedy === undefined) {
      t.is(difference.orderId, doubtful)
      continue
    }
    t.is((await redrive(ledger, ports, { ...difference, remedy }, 'ann@test')).outcome, 'done')
  }
  t.deepEqual(sent, [`${approved} MANUFACTURING_APPROVED`])
  const rows = await ledger.query<{ order_id: string; state: string; gen: number }>(
    'SELECT order_id, state, gen FROM order_ledger',
  )
  const row = (id: string) => rows.rows.find((each) => each.order_id === id)
  t.like(row(deleted), { state: 'accepted', gen: 1 })
  t.like(row(quiet), { state: 'accepted', gen: 0 })
  t.like(row(byCrm), { state: 'accepted', gen: 1 })
  t.like(row(doubtful), { state: 'in_doubt', gen: 0 })
  const claims = await shop.query(
    'SELECT FROM public.orders WHERE id = $1 AND crm_sent_at IS NULL',
    [byCrm],
  )
  t.is(claims.rowCount, 1)
  const notes = await ledger.query<{ order_id: string; actor: string }>(
    `SELECT order_id, actor FROM order_event WHERE hop = 'redrive'`,
  )
  t.deepEqual(
    notes.rows.map((note) => note.order_id).toSorted(),
    [byCrm, deleted, quiet, approved].toSorted(),
  )
  t.true(notes.rows.every((note) => note.actor === 'ann@test'))
  // What went back to CRM is under way from now on.
  t.false((await differences()).some((difference) => difference.orderId === byCrm))
})

test.serial('without proof nothing is sent again', async (t) => {
  const byCrm = await plant({ path: 'legacy', mail: [], mesStatus: undefined, state: 'accepted' })
  await plant({ mesStatus: undefined })
  const found = await differences()
  t.is(found.length, 2)
  const refuse = async (
    ports: Pick<RedrivePorts, 'mayBeUnderway' | 'isInMes'>,
    outcome: Redriven['outcome'],
  ): Promise<void> => {
    for (const difference of found) {
      const all: RedrivePorts = {
        statuses: noStatuses,
        ordersQueue: 'mes.orders',
        ...ports,
        isPastSubmitted: async () => false,
        giveBackToCrm: async () => t.fail('given back'),
        sendDecision: async () => void t.fail('sent'),
      }
      const done = await redrive(
        ledger,
        all,
        { ...difference, remedy: difference.remedy! },
        'ann@test',
      )
      t.is(done.outcome, outcome)
    }
  }
  await refuse(
    { mayBeUnderway: async () => 'maybe', isInMes: async () => false },
    'may be under way',
  )
  await refuse({ mayBeUnderway: async () => 'no', isInMes: async () => true }, 'the MES has it')
  // The bridge has it in hand: it left the queue between the comparison and the proof.
  await ledger.query(
    `INSERT INTO bridge_inbox (queue, msg_key, order_id, routing_key, exchange, state, body, properties, redelivered)
     VALUES ('mes.orders', '\\x01', $1, 'order.submitted', '', 'received', '', '{}', false)`,
    [byCrm],
  )
  const difference = found.find((each) => each.orderId === byCrm)!
  const ports: RedrivePorts = {
    statuses: noStatuses,
    ordersQueue: 'mes.orders',
    mayBeUnderway: async () => 'no',
    isInMes: async () => false,
    isPastSubmitted: async () => false,
    giveBackToCrm: async () => t.fail('given back'),
    sendDecision: async () => void t.fail('sent'),
  }
  const done = await redrive(
    ledger,
    ports,
    { ...difference, remedy: difference.remedy! },
    'ann@test',
  )
  t.is(done.outcome, 'may be under way')
  t.deepEqual(listed(await differences()).length, 1)
})

test.serial('a redrive asks once more whether the MES had the order', async (t) => {
  const id = await plant({ mesStatus: undefined })
  const quiet = await plant({ mesStatus: undefined, state: 'accepted' })
  const found = await differences()
  const ask = async (isPastSubmitted: boolean): Promise<void> => {
    for (const difference of found) {
      const ports: RedrivePorts = {
        statuses: noStatuses,
        ordersQueue: 'mes.orders',
        mayBeUnderway: async () => 'no',
        isInMes: async () => false,
        isPastSubmitted: async () => isPastSubmitted,
        giveBackToCrm: async () => t.fail('given back'),
        sendDecision: async () => void t.fail('sent'),
      }
      const acted = { ...difference, remedy: difference.remedy! }
      t.is((await redrive(ledger, ports, acted, 'ann@test')).outcome, 'the MES had it')
    }
  }
  t.is(found.length, 2)
  await ask(true)
  for (const orderId of [id, quiet]) {
    await ledger.query(
      `INSERT INTO bridge_inbox (queue, msg_key, order_id, routing_key, exchange, state, body, properties, redelivered)
       VALUES ('crm.events', convert_to($1::text, 'UTF8'), $1, 'order.price_calculated', '', 'forwarded', '', '{}', false)`,
      [orderId],
    )
  }
  await ask(false)
  const { rows } = await ledger.query('SELECT FROM order_ledger WHERE gen > 0')
  t.is(rows.length, 0)
})

test.serial(
  "what the MES queue lost behind the bridge is the bridge's to send again",
  async (t) => {
    const id = await plant({ path: 'legacy', mesStatus: undefined })
    // CRM was asked before: its second message was taken for a repetition.
    await ledger.query(
      `INSERT INTO bridge_inbox (queue, msg_key, order_id, routing_key, exchange, state, body, properties, redelivered, received_at, settled_at)
     VALUES ('mes.orders', '\\x02', $1, 'order.submitted', '', 'suppressed', '', '{}', false, ${hour}, ${hour})`,
      [id],
    )
    const [difference] = await differences()
    const ports: RedrivePorts = {
      statuses: noStatuses,
      ordersQueue: 'mes.orders',
      mayBeUnderway: async () => 'no',
      isInMes: async () => false,
      isPastSubmitted: async () => false,
      giveBackToCrm: async () => t.fail('given back'),
      sendDecision: async () => void t.fail('sent'),
    }
    const acted = { ...difference!, remedy: difference!.remedy! }
    t.is((await redrive(ledger, ports, acted, 'ann@test')).outcome, 'done')
    const { rows } = await ledger.query(
      `SELECT i.state, settled_at, l.gen, l.state AS transport FROM bridge_inbox i JOIN order_ledger l USING (order_id)
     WHERE i.state <> 'suppressed'`,
    )
    t.deepEqual(rows, [{ state: 'held', settled_at: null, gen: 1, transport: 'accepted' }])
    t.is((await redrive(ledger, ports, acted, 'ann@test')).outcome, 'may be under way')
    t.deepEqual(await differences(), [])
  },
)

test.serial('nothing goes back to CRM while no bridge would stop a second message', async (t) => {
  await plant({ path: 'legacy', mail: [], mesStatus: undefined, state: 'accepted' })
  await plant({ path: 'legacy', mesStatus: undefined })
  const found = await differences()
  t.is(found.length, 2)
  const ports: RedrivePorts = {
    statuses: noStatuses,
    ordersQueue: 'mes.orders',
    mayBeUnderway: async () => 'no',
    isInMes: async () => false,
    isPastSubmitted: async () => false,
    giveBackToCrm: async () => t.fail('given back'),
    sendDecision: async () => void t.fail('sent'),
  }
  for (const state of ['absent', 'inserting', 'removing']) {
    await ledger.query('UPDATE bridge SET state = $1', [state])
    for (const difference of found) {
      const acted = { ...difference, remedy: difference.remedy! }
      t.regex((await redrive(ledger, ports, acted, 'ann@test')).outcome, /^refused: /)
    }
  }
  const { rows } = await ledger.query('SELECT FROM order_event')
  t.is(rows.length, 0)
})
