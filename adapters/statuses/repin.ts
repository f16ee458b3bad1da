import { setTimeout as pause } from 'node:timers/promises'

import { StranglerError } from '../../contracts/errors.ts'
import type { Path } from '../../contracts/order.ts'
import {
  finishRepins,
  lastForwarded,
  listToCome,
  listUnfinished,
  pinDirect,
  pinLegacy,
  readPin,
  underWay,
} from '../../delivery/repin-statuses.ts'
import type { NotYet, RepinAct, Repinned } from '../../delivery/repin-statuses.ts'
import { failpoint } from '../../runtime/failpoint.ts'
import { isLockTimeout } from '../../runtime/postgres.ts'
import type { Pool } from '../../runtime/postgres.ts'
import type { Broker } from '../broker/port.ts'
import { eventsToCrm } from '../wire/legacy-topology.ts'
import { moveFences } from './shop-fence.ts'

const batch = 500
const lookAgainMs = 200
/** A round of questions to the broker: each looks through a queue that may be long. */
const askForMs = 1000
/** Of what is left where it is; all are counted. */
const named = 100

interface Repin extends RepinAct {
  readonly ledger: Pool
  readonly shop: Pool
  /** Only a repin to `direct` asks it. */
  broker(): Promise<Pick<Broker, 'mayHold'>>
  /** So long an applier may finish what is open, and what is under way to CRM arrive. */
  readonly withinMs: number
  onProgress?(line: string): void
}

export interface RepinResult {
  readonly to: Path
  /** Recorded by this run, and finished. */
  readonly moved: number
  /** Recorded by an earlier run, which did not come to its end. */
  readonly carriedOn: number
  /** Statuses that had waited for something, and that CRM gets now. */
  readonly statusesToCrm: number
  readonly left: number
  readonly leftFor: readonly NotYet['because'][]
  /** The first of them. */
  readonly notYet: readonly NotYet[]
}

/**
 * Moves the statuses of one order, or of all whose statuses are still to come, to the other path. What an earlier run has begun is
 * finished first, whosever it was.
 * @throws StranglerError `not_found`, `refused`
 */
export async function repin(repinning: Repin, orderId: string | undefined): Promise<RepinResult> {
  const { to } = repinning
  const deadline = performance.now() + repinning.withinMs
  const earlier = await carryOn(repinning)
  let moved = 0
  let { toCrm } = earlier
  const notYet: NotYet[] = []
  for await (const page of pages(repinning, orderId)) {
    let waiting = page
    for (;;) {
      const done = await move(repinning, waiting).catch((error: unknown) => busy(error, waiting))
      moved += done.moved.length
      if (done.moved.length > 0) {
        failpoint('repin.recorded')
        toCrm += (await carryOn(repinning)).toCrm
      }
      waiting = done.notYet
        .filter(({ because }) => because !== 'parked')
        .map(({ orderId: id }) => id)
      if (waiting.length === 0 || performance.now() > deadline) {
        notYet.push(...done.notYet)
        break
      }
      // Of these the last word is the next round's.
      notYet.push(...done.notYet.filter(({ because }) => because === 'parked'))
      repinning.onProgress?.(
        `${moved} moved, ${waiting.length} wait: ${done.notYet[0]?.says ?? ''}`,
      )
      await pause(lookAgainMs)
    }
  }
  return {
    to,
    moved,
    carriedOn: earlier.finished,
    statusesToCrm: toCrm,
    left: notYet.length,
    leftFor: [...new Set(notYet.map(({ because }) => because))],
    notYet: notYet.slice(0, named),
  }
}

async function* pages(
  { ledger, to }: Repin,
  orderId: string | undefined,
): AsyncGenerator<string[]> {
  if (orderId !== undefined) {
    if (await mustMove(ledger, to, orderId)) yield [orderId]
    return
  }
  let page: string[] = []
  do {
    page = await listToCome(ledger, to === 'legacy' ? 'direct' : 'legacy', page.at(-1), batch)
    if (page.length > 0) yield page
  } while (page.length === batch)
}

/** False: it is there already. */
async function mustMove(ledger: Pool, to: Path, orderId: string): Promise<boolean> {
  const pin = await readPin(ledger, orderId)
  if (pin === undefined) throw new StranglerError('not_found', `the ledger has no order ${orderId}`)
  if (pin.path === to) return false
  if (pin.path === null) {
    throw new StranglerError(
      'refused',
      `no status of ${orderId} has come: the path of its statuses is decided at the first`,
    )
  }
  if (!pin.toCome) {
    throw new StranglerError(
      'refused',
      `${orderId} has been shipped, no status of it is to come: nothing is left to move`,
    )
  }
  return true
}

async function move(repinning: Repin, orderIds: readonly string[]): Promise<Repinned> {
  const { ledger, to } = repinning
  if (to === 'legacy') return pinLegacy(ledger, repinning, orderIds)
  const { queue } = eventsToCrm
  const settled = await lastForwarded(ledger, queue, orderIds)
  const since = performance.now()
  const broker = await repinning.broker()
  const proved = new Map<string, string>()
  const asked = new Set<string>()
  for (const [id, last] of settled) {
    if (performance.now() > since + askForMs) break
    asked.add(id)
    if ((await broker.mayHold(queue, id, since)) === 'no') proved.set(id, last)
  }
  const done = await pinDirect(ledger, { ...repinning, queue }, proved)
  if (done.bridge !== 'inserted') {
    throw new StranglerError(
      'refused',
      `the bridge of ${queue} is not inserted, or is being changed: without it no status would come this way`,
    )
  }
  const unproved = orderIds.filter((id) => !proved.has(id))
  // Whose turn did not come is asked for first in the next round.
  const inTurn = [
    ...unproved.filter((id) => !asked.has(id)),
    ...unproved.filter((id) => asked.has(id)),
  ]
  return { moved: done.moved, notYet: [...done.notYet, ...inTurn.map(underWay)] }
}

/** A process that was frozen in a transaction keeps the pins, or rows, from us; its server ends it. */
function busy(error: unknown, orderIds: readonly string[]): Repinned {
  if (!isLockTimeout(error)) throw error
  const says =
    'a transaction in the ledger holds what must change: is a bridge or an applier frozen?'
  return {
    moved: [],
    notYet: orderIds.map((orderId) => ({ orderId, because: 'in hand', says })),
  }
}

/**
 * Every recorded repin to its end.
 * @throws StranglerError `shop_unavailable`: recorded, and open
 */
export async function carryOn({
  ledger,
  shop,
}: Pick<Repin, 'ledger' | 'shop'>): Promise<{ finished: number; toCrm: number }> {
  let finished = 0
  let toCrm = 0
  for (;;) {
    const records = await listUnfinished(ledger, batch)
    if (records.length === 0) return { finished, toCrm }
    const rows = await moveFences(shop, records).catch((error: unknown) => {
      if (!isLockTimeout(error)) throw error
      const says =
        'an applier holds the fence of an order; what is recorded is finished when you say it again'
      throw new StranglerError('shop_unavailable', says, error)
    })
    failpoint('repin.fenced')
    const done = await finishRepins(ledger, records, rows)
    failpoint('repin.finished')
    finished += done.finished
    toCrm += done.toCrm
  }
}
