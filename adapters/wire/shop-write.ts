import { orderStatuses } from '../../contracts/order.ts'
import { judgeStatuses } from '../../contracts/status-rules.ts'
import type { FieldDifference } from '../../delivery/parity-book.ts'
import { readMesEvent } from './mes-event.ts'
import { sameNumber } from './same-number.ts'

/** What we would write to the order's row because of one message of the MES, or why we would let a person look at it. */
export type OurWrite =
  | {
      readonly as: 'write'
      readonly status: string
      /** undefined = price and currency stay as they are. */
      readonly price: string | undefined
      readonly currency: string | undefined
    }
  | { readonly as: 'parked'; readonly status: string | undefined; readonly reason: string }

/** An order's row as CRM left it. */
export interface CrmWrite {
  readonly id: string
  readonly status: string
  readonly price: string | null
  readonly currency: string | null
  /** Price or currency became another by it. */
  readonly repriced: boolean
}

export const shopWriteFields = ['row', 'status', 'price', 'currency'] as const

const ladder = Object.keys(orderStatuses)

/** Judged by the rules of the direct way themselves, against an order that stands just before this status. */
export function ourWriteOf(routingKey: string, body: Buffer): OurWrite {
  const event = readMesEvent(routingKey, body)
  const rank = ladder.indexOf(event.status ?? '')
  const before = {
    status: ladder[Math.max(0, rank - 1)]!,
    price: null,
    currency: null,
    priceId: 0,
  }
  const { verdicts, write } = judgeStatuses(before, [{ id: 1, accepted: false, ...event }])
  const verdict = verdicts.get(1)
  if (verdict?.state === 'parked' || write === undefined) {
    return { as: 'parked', status: event.status, reason: verdict?.reason ?? 'no write' }
  }
  return {
    as: 'write',
    status: write.status,
    price: write.price ?? undefined,
    currency: write.currency ?? undefined,
  }
}

export function sameWrite(ours: OurWrite, theirs: CrmWrite): boolean {
  return ours.as === 'write' && compareWrites(ours, theirs).length === 0
}

export function compareWrites(ours: OurWrite, theirs: CrmWrite): FieldDifference[] {
  if (ours.as === 'parked') {
    return [{ field: 'row', ours: describeOurs(ours), theirs: describeTheirs(theirs) }]
  }
  const differences: FieldDifference[] = []
  if (ours.status !== theirs.status) {
    differences.push({ field: 'status', ours: ours.status, theirs: theirs.status })
  }
  const price = theirs.price ?? undefined
  const currency = theirs.currency ?? undefined
  if (ours.price === undefined) {
    if (theirs.repriced) differences.push({ field: 'price', ours: undefined, theirs: price })
    return differences
  }
  if (price === undefined || !sameNumber(ours.price, price)) {
    differences.push({ field: 'price', ours: ours.price, theirs: price })
  }
  if (ours.currency !== currency) {
    differences.push({ field: 'currency', ours: ours.currency, theirs: currency })
  }
  return differences
}

/** CRM writes it like any other, but its write can't be told from one of CRM's or the Shop's own, so it is not logged. */
export function isOfWrongSetter(ours: OurWrite): boolean {
  return ours.as === 'parked' && ours.reason === 'wrong_setter'
}

export function describeOurs(ours: OurWrite): string {
  if (ours.as === 'parked') return `parked: ${ours.reason}`
  return words(ours.status, ours.price, ours.currency)
}

export function describeTheirs({ status, price, currency }: CrmWrite): string {
  return words(status, price, currency)
}

function words(...parts: (string | null | undefined)[]): string {
  return parts.filter((part) => part !== null && part !== undefined).join(' ')
}
