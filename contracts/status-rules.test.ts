import test from 'ava'

import { SeededRandom } from '../scripts/chaos/seeded-random.ts'
import { orderStatuses } from './order.ts'
import { judgeStatuses } from './status-rules.ts'
import type { Judged, OrderStatusRow, StatusEvent } from './status-rules.ts'

const fresh: OrderStatusRow = { status: 'SUBMITTED', price: null, currency: null, priceId: 0 }

function row(status: string, more: Partial<OrderStatusRow> = {}): OrderStatusRow {
  return { ...fresh, status, ...more }
}

function moved(id: number, status: string | undefined): StatusEvent {
  return { id, status, price: undefined, currency: undefined, accepted: false }
}

function priced(id: number, price: string, currency: string | undefined = 'EUR'): StatusEvent {
  return { id, status: 'PRICE_CALCULATED', price, currency, accepted: false }
}

function accepted(event: StatusEvent): StatusEvent {
  return { ...event, accepted: true }
}

function words({ verdicts }: Judged): string[] {
  return [...verdicts.values()].map(({ state, reason }) =>
    reason === undefined ? state : `${state}: ${reason}`,
  )
}

test('a price and its status are one write', (t) => {
  const judged = judgeStatuses(fresh, [priced(7, '12.30')])
  t.deepEqual(judged.write, { status: 'PRICE_CALCULATED', price: '12.30', currency: 'EUR' })
  t.is(judged.priceId, 7)
  t.deepEqual(words(judged), ['applied'])
})

test('of a burst the last status and the last price are written, the rest is superseded', (t) => {
  const judged = judgeStatuses(row('MANUFACTURING_APPROVED'), [
    priced(1, '10.00'),
    moved(2, 'MANUFACTURING_STARTED'),
    priced(3, '11.00'),
    moved(4, 'MANUFACTURING_COMPLETED'),
    moved(5, 'PACKAGING'),
  ])
  t.deepEqual(judged.write, { status: 'PACKAGING', price: '11.00', currency: 'EUR' })
  t.deepEqual(words(judged), [
    'backward: the order is MANUFACTURING_APPROVED',
    'superseded',
    'backward: the order is MANUFACTURING_STARTED',
    'superseded',
    'applied',
  ])
})

test('an event that still has the price of the burst is not superseded by a later status', (t) => {
  const judged = judgeStatuses(fresh, [priced(1, '10.00'), moved(2, 'PRICE_CALCULATED')])
  t.deepEqual(words(judged), ['applied', 'superseded: repeated'])
})

test('a status that is there already, and a price that came before the one in the row, change nothing', (t) => {
  const there = row('PRICE_CALCULATED', { price: '12.30', currency: 'EUR', priceId: 7 })
  const judged = judgeStatuses(there, [
    priced(6, '99.00'),
    priced(7, '12.30'),
    moved(8, 'PRICE_CALCULATED'),
  ])
  t.is(judged.write, undefined)
  t.is(judged.priceId, 7)
  t.deepEqual([...new Set(words(judged))], ['superseded: repeated'])
})

test('nothing goes back, also behind what CRM has set; the price of such an event counts', (t) => {
  for (const status of ['MANUFACTURING_APPROVED', 'SHIPPED', 'CLOSED']) {
    const judged = judgeStatuses(row(status, { price: '1.00', currency: 'EUR', priceId: 1 }), [
      priced(2, '2.00'),
    ])
    t.deepEqual(judged.write, { status, price: '2.00', currency: 'EUR' })
    t.deepEqual(words(judged), [`backward: the order is ${status}`])
  }
  t.is(judgeStatuses(row('CLOSED'), [moved(2, 'PACKAGING')]).write, undefined)
})

test('what is not possible yet waits: before the submit, and past an approval that CRM has not given', (t) => {
  for (const status of ['INITIATED', 'FILE_UPLOADED'])
    t.deepEqual(words(judgeStatuses(row(status), [priced(1, '1.00')])), ['waiting: not_submitted'])
  for (const status of ['SUBMITTED', 'PRICE_CALCULATED'])
    for (const later of [
      'MANUFACTURING_STARTED',
      'MANUFACTURING_COMPLETED',
      'PACKAGING',
      'SHIPPED',
    ])
      t.deepEqual(words(judgeStatuses(row(status), [moved(1, later)])), ['waiting: not_approved'])
})

test('who waits holds up nobody of the same burst', (t) => {
  const judged = judgeStatuses(fresh, [
    moved(1, 'SHIPPED'),
    priced(2, '1.00'),
    moved(3, 'nonsense'),
  ])
  t.deepEqual(judged.write, { status: 'PRICE_CALCULATED', price: '1.00', currency: 'EUR' })
  t.deepEqual(words(judged), ['waiting: not_approved', 'applied', 'parked: unknown_status'])
})

test('the table of setters is closed: the MES sets its own five and no other', (t) => {
  for (const [status, setter] of Object.entries(orderStatuses)) {
    const verdict = words(judgeStatuses(row('MANUFACTURING_APPROVED'), [moved(1, status)]))
    if (setter === 'mes') t.notRegex(verdict[0]!, /parked/, status)
    else t.deepEqual(verdict, ['parked: wrong_setter'], status)
  }
})

test('a word that is no status, and none at all, is parked', (t) => {
  for (const word of ['', 'shipped', 'SHIPPED ', 'toString', '__proto__', 'constructor'])
    t.deepEqual(words(judgeStatuses(fresh, [moved(1, word)])), ['parked: unknown_status'], word)
  t.deepEqual(words(judgeStatuses(fresh, [moved(1, undefined)])), ['parked: no_status'])
})

test('a price is kept digit by digit, or parked; it is never rounded', (t) => {
  for (const price of ['12.30', '12.3', '0.10', '0', '9999999999.99', '12.3400'])
    t.is(judgeStatuses(fresh, [priced(1, price)]).write?.price, price)
  for (const price of [
    '12.345',
    '12.30001',
    '10000000000.00',
    '-1.00',
    '+1.00',
    '1e3',
    '1,50',
    '',
    ' 1',
    '1 ',
    'NaN',
    'Infinity',
    '.5',
    '5.',
    '1.00\n',
  ])
    t.deepEqual(
      words(judgeStatuses(fresh, [priced(1, price)])),
      ['parked: price_unreadable'],
      price,
    )
  for (const currency of [undefined, '', 'eur', 'EURO', 'E€R'])
    t.deepEqual(words(judgeStatuses(fresh, [{ ...priced(1, '1.00'), currency }])), [
      'parked: price_unreadable',
    ])
})

test('what a person accepts is set whatever the rules say, but no nonsense', (t) => {
  t.is(judgeStatuses(row('SHIPPED'), [accepted(moved(1, 'CLOSED'))]).write?.status, 'CLOSED')
  t.is(judgeStatuses(row('SHIPPED'), [accepted(moved(1, 'PACKAGING'))]).write?.status, 'PACKAGING')
  t.is(judgeStatuses(row('SUBMITTED'), [accepted(moved(1, 'SHIPPED'))]).write?.status, 'SHIPPED')
  t.deepEqual(words(judgeStatuses(fresh, [accepted(moved(1, 'sent'))])), ['parked: unknown_status'])
  t.deepEqual(words(judgeStatuses(fresh, [accepted(priced(1, '12.345'))])), [
    'parked: price_unreadable',
  ])
})

// The applier dies after the Shop's commit and before its own: until it is back, the seller closes the order.
test('what was accepted and is in the row does not come back after a crash', (t) => {
  const event = accepted(moved(3, 'SHIPPED'))
  const before = judgeStatuses(row('MANUFACTURING_APPROVED'), [event])
  t.is(before.write?.status, 'SHIPPED')
  t.deepEqual(before.acceptedIds, [3])
  const again = judgeStatuses(row('CLOSED', { acceptedIds: before.acceptedIds }), [event])
  t.is(again.write, undefined)
  t.deepEqual(words(again), ['superseded: repeated'])
  t.deepEqual(again.acceptedIds, [])
})

const steps = ['MANUFACTURING_STARTED', 'MANUFACTURING_COMPLETED', 'PACKAGING', 'SHIPPED'] as const

/**
 * The MES, a network that delays, reorders and doubles, an applier that crashes between its two commits or is frozen and goes on
 * with what it had read long ago, and CRM, which approves and closes when the row lets it.
 */
class World {
  row: OrderStatusRow = fresh
  /** Arrived and not settled. */
  open: StatusEvent[] = []
  lastPrice: string | undefined
  readonly #random: SeededRandom
  readonly #closes: boolean
  readonly #underWay: Omit<StatusEvent, 'id'>[] = []
  readonly #frozen: StatusEvent[][] = []
  readonly #toPrice: string[]
  readonly #toDo: string[] = [...steps]
  #approved = false
  #arrivals = 0

  constructor(random: SeededRandom) {
    this.#random = random
    this.#closes = random.next() < 0.7
    this.#toPrice = Array.from(
      { length: 1 + random.below(3) },
      () => `${random.below(1000)}.${10 + random.below(90)}`,
    )
  }

  step(): void {
    this.#random.pick([
      () => this.#work(),
      () => this.#arrive(),
      () => this.#arrive(),
      () => this.#apply(),
      () => this.#decide(),
    ])()
  }

  /** Nothing is delayed any more. */
  end(): void {
    for (let quiet = 0; quiet < 20; quiet += 1) {
      while (this.#work()) quiet = 0
      while (this.#arrive()) quiet = 0
      this.#thaw()
      this.#settle(this.open, this.#write(this.open))
      this.#decide()
    }
  }

  get expected(): { status: string; price: string | undefined } {
    return { status: this.#closes ? 'CLOSED' : 'SHIPPED', price: this.lastPrice }
  }

  #work(): boolean {
    const price = this.#random.next() < 0.5 || !this.#approved ? this.#toPrice.shift() : undefined
    if (price !== undefined) {
      this.#send({ status: 'PRICE_CALCULATED', price, currency: 'EUR', accepted: false })
      return true
    }
    const status = this.#approved ? this.#toDo.shift() : undefined
    if (status === undefined) return this.#approved && this.#toPrice.length > 0
    this.#send({ status, price: undefined, currency: undefined, accepted: false })
    return true
  }

  #send(event: Omit<StatusEvent, 'id'>): void {
    for (let copies = 1 + this.#random.below(3); copies > 0; copies -= 1) this.#underWay.push(event)
  }

  #arrive(): boolean {
    if (this.#underWay.length === 0) return false
    // Mostly the oldest, sometimes any.
    const at = this.#random.next() < 0.5 ? 0 : this.#random.below(this.#underWay.length)
    const [event] = this.#underWay.splice(at, 1)
    this.#arrivals += 1
    this.open.push({ ...event!, id: this.#arrivals })
    if (event!.price !== undefined) this.lastPrice = event!.price
    return true
  }

  #apply(): void {
    const burst = [...this.open]
    const fate = this.#random.next()
    if (fate < 0.15) this.#frozen.push(burst)
    else if (fate < 0.3) this.#thaw()
    else if (fate < 0.5) this.#write(burst)
    else this.#settle(burst, this.#write(burst))
  }

  #thaw(): void {
    for (const burst of this.#frozen.splice(0)) {
      // Its locks in the ledger are gone: what it settles there, it can't commit.
      this.#write(burst)
    }
  }

  #write(burst: readonly StatusEvent[]): Judged {
    const judged = judgeStatuses(this.row, burst)
    this.row = { ...this.row, ...judged.write, priceId: judged.priceId }
    return judged
  }

  #settle(burst: readonly StatusEvent[], { verdicts }: Judged): void {
    const stays = burst.filter(({ id }) => verdicts.get(id)?.state === 'waiting')
    const parked = burst.filter(({ id }) => verdicts.get(id)?.state === 'parked')
    if (parked.length > 0) throw new Error(`parked: ${JSON.stringify(parked)}`)
    this.open = [...stays, ...this.open.filter((event) => !burst.includes(event))].toSorted(
      (a, b) => a.id - b.id,
    )
  }

  #decide(): void {
    if (this.row.status === 'PRICE_CALCULATED') {
      this.row = { ...this.row, status: 'MANUFACTURING_APPROVED' }
      this.#approved = true
    } else if (this.row.status === 'SHIPPED' && this.#closes) {
      this.row = { ...this.row, status: 'CLOSED' }
    }
  }
}

test('any interleaving, duplication, delay, splitting and replay of a history ends in the same row', (t) => {
  const wrong: unknown[] = []
  let arrivals = 0
  for (let seed = 1; seed <= 5000; seed += 1) {
    const random = new SeededRandom(seed)
    const world = new World(random)
    for (let left = 10 + random.below(90); left > 0; left -= 1) world.step()
    world.end()
    const { status, price, priceId } = world.row
    arrivals += priceId
    const { expected, open } = world
    if (status !== expected.status || price !== expected.price || open.length > 0)
      wrong.push({ seed, status, price, expected, open })
  }
  t.deepEqual(wrong.slice(0, 3), [], `${wrong.length} seeds`)
  t.log(`5 000 histories, ${arrivals} last prices by arrival`)
})
