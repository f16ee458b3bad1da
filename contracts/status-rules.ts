import { orderStatuses, statusRank } from './order.ts'

/** What the MES told of an order, as it arrived. */
export interface StatusEvent {
  /** Rises with the order of arrival. */
  readonly id: number
  /** As it was written; undefined where the message has none. */
  readonly status: string | undefined
  /** Exact decimal text. */
  readonly price: string | undefined
  readonly currency: string | undefined
  /** A person has looked at it: its status is set whatever the rules say. */
  readonly accepted: boolean
}

/** The order's row in the Shop DB, and how far our events are in it. */
export interface OrderStatusRow {
  readonly status: string
  readonly price: string | null
  readonly currency: string | null
  /** The event whose price the row has; 0 = none of ours. */
  readonly priceId: number
  /** What a person has accepted and the row has had: judged again, it may not undo what came since. */
  readonly acceptedIds?: readonly number[]
}

/**
 * applied: it is in the row. superseded: a later one of the same burst, or the same status before it, is. backward: the order is
 * further already, also by CRM; a price of it counts all the same. waiting: not yet possible, tried again. parked: never possible
 * by the rules, a person must look.
 */
export interface Verdict {
  readonly state: 'applied' | 'superseded' | 'backward' | 'waiting' | 'parked'
  readonly reason?: string
}

export interface Judged {
  /** What the row is to become; undefined = it stays as it is. */
  readonly write:
    | { readonly status: string; readonly price: string | null; readonly currency: string | null }
    | undefined
  readonly priceId: number
  /** What a person has accepted and the row has now. */
  readonly acceptedIds: readonly number[]
  readonly verdicts: ReadonlyMap<number, Verdict>
}

const submitted = statusRank('SUBMITTED')
const approved = statusRank('MANUFACTURING_APPROVED')

/**
 * The closed table of statuses and setters, applied to what is open of one order, in the order of arrival. A status only goes
 * forward, a price only to a later event, and what a person has accepted is set once, so judging the same events again, or in
 * two bursts instead of one, ends in the same row: a replay is a no-op.
 */
export function judgeStatuses(row: OrderStatusRow, events: readonly StatusEvent[]): Judged {
  const verdicts = new Map<number, Verdict>()
  let { status, price, currency, priceId } = row
  let statusBy: number | undefined
  let priceBy: number | undefined
  const acceptedBefore = new Set(row.acceptedIds)
  const acceptedIds: number[] = []
  for (const event of events) {
    const objection = objectionTo(event, status)
    if (objection !== undefined) {
      verdicts.set(event.id, objection)
      continue
    }
    let verdict: Verdict = { state: 'superseded', reason: 'repeated' }
    if (event.price !== undefined && event.id > priceId) {
      price = event.price
      currency = event.currency ?? currency
      priceId = event.id
      supersede(verdicts, priceBy, statusBy)
      priceBy = event.id
      verdict = { state: 'applied' }
    }
    const wanted = event.status ?? status
    const ahead = statusRank(wanted) - statusRank(status)
    const isDone = event.accepted && acceptedBefore.has(event.id)
    if (event.accepted && !isDone) acceptedIds.push(event.id)
    if (ahead > 0 || (event.accepted && !isDone && ahead !== 0)) {
      supersede(verdicts, statusBy, priceBy)
      statusBy = event.id
      status = wanted
      verdict = { state: 'applied' }
    } else if (ahead < 0 && !isDone) {
      verdict = { state: 'backward', reason: `the order is ${status}` }
    }
    verdicts.set(event.id, verdict)
  }
  const changes = status !== row.status || price !== row.price || currency !== row.currency
  return {
    write: changes ? { status, price, currency } : undefined,
    priceId,
    acceptedIds,
    verdicts,
  }
}

/** Of an event that was overtaken within the burst nothing is left, unless it still has the other of status and price. */
function supersede(
  verdicts: Map<number, Verdict>,
  overtaken: number | undefined,
  stillIn: number | undefined,
): void {
  if (overtaken === undefined || overtaken === stillIn) return
  if (verdicts.get(overtaken)?.state === 'applied') verdicts.set(overtaken, { state: 'superseded' })
}

function objectionTo(event: StatusEvent, status: string): Verdict | undefined {
  if (event.price !== undefined && !isStorablePrice(event.price, event.currency))
    return { state: 'parked', reason: 'price_unreadable' }
  if (event.status !== undefined && setterOf(event.status) === undefined)
    return { state: 'parked', reason: 'unknown_status' }
  if (event.accepted) return undefined
  if (event.status === undefined)
    return event.price === undefined ? { state: 'parked', reason: 'no_status' } : undefined
  if (setterOf(event.status) !== 'mes') return { state: 'parked', reason: 'wrong_setter' }
  if (statusRank(status) < submitted) return { state: 'waiting', reason: 'not_submitted' }
  if (statusRank(event.status) > approved && statusRank(status) < approved)
    return { state: 'waiting', reason: 'not_approved' }
  return undefined
}

function setterOf(status: string): 'shop' | 'mes' | 'crm' | undefined {
  const setters: Readonly<Record<string, 'shop' | 'mes' | 'crm'>> = orderStatuses
  return Object.hasOwn(setters, status) ? setters[status] : undefined
}

/** Ten digits and two decimals are what the Shop DB keeps exactly; anything finer would be rounded in silence. */
function isStorablePrice(price: string, currency: string | undefined): boolean {
  return /^\d{1,10}(\.\d{1,2}0*)?$/.test(price) && /^[A-Z]{3}$/.test(currency ?? '')
}
