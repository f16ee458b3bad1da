import type { ComparedMessage, UnaskedWrite } from '../../delivery/parity-book.ts'
import {
  compareWrites,
  describeOurs,
  describeTheirs,
  isOfWrongSetter,
  sameWrite,
} from '../wire/shop-write.ts'
import type { CrmWrite, OurWrite } from '../wire/shop-write.ts'

/** A message of the MES about the order that went on to CRM. */
export interface StatusMessage {
  readonly inboxId: string
  readonly ours: OurWrite
  /** Not compared yet. */
  readonly open: boolean
  /** CRM has had its time. */
  readonly ripe: boolean
  /** What was found to differ, of one that is compared: what theirs is, by field. */
  readonly known: Readonly<Record<string, string | null>>
}

export interface LoggedWrite extends CrmWrite {
  readonly ripe: boolean
}

/** What is known of one order, both sides in their own order. */
export interface OrderToCompare {
  readonly orderId: string
  readonly messages: readonly StatusMessage[]
  readonly writes: readonly LoggedWrite[]
  /** A message of it is on its way through the bridge: a write may be that message's. */
  readonly underway: boolean
  /** Every message of it came through the bridge, so a write without one is nobody's. */
  readonly fromTheStart: boolean
  /** False: neither CRM nor we have a row to write to. */
  readonly inShop: boolean
}

export interface PairedOrder {
  readonly compared: readonly ComparedMessage[]
  readonly unasked: readonly UnaskedWrite[]
  /** Writes that are dealt with, whatever was found. */
  readonly done: readonly string[]
}

/**
 * Finds for each message the write that CRM made of it, in sequence. What fits exactly is paired at once; a write that an
 * earlier message has asked for is a redelivery; anything else is concluded when CRM has had its time, so that a write that
 * is merely late, or read before its message, is not taken for a wrong one.
 */
export function pairCrmWrites(order: OrderToCompare): PairedOrder {
  const { orderId } = order
  const compared: ComparedMessage[] = []
  const unasked: UnaskedWrite[] = []
  const done: string[] = []
  const paired: Written[] = []
  const open: StatusMessage[] = []
  const missing: StatusMessage[] = []
  for (const message of order.messages) {
    if (!message.open) {
      if (message.known['row'] === null) missing.push(message)
      else paired.push({ ours: message.ours, known: message.known })
    } else if (isOfWrongSetter(message.ours)) {
      const difference = {
        field: 'row',
        ours: describeOurs(message.ours),
        theirs: `${message.ours.status}, as far as CRM wrote it`,
      }
      compared.push({ ...identity(message), differences: [difference] })
    } else open.push(message)
  }

  function identity({ inboxId, open: first }: StatusMessage) {
    return { inboxId, orderId, again: !first }
  }
  const pair = (from: StatusMessage[], message: StatusMessage, write: CrmWrite): void => {
    from.splice(from.indexOf(message), 1)
    const differences = compareWrites(message.ours, write)
    compared.push({ ...identity(message), differences })
    const known = Object.fromEntries(differences.map((each) => [each.field, each.theirs ?? null]))
    paired.push({ ours: message.ours, known })
    done.push(write.id)
  }
  const isRepeated = (write: CrmWrite): boolean => paired.some((each) => wrote(each, write))

  // 1. what fits
  const unlike = order.writes.filter((write) => {
    for (const from of [open, missing]) {
      const fitting = from.find(({ ours }) => sameWrite(ours, write))
      if (fitting === undefined) continue
      pair(from, fitting, write)
      return false
    }
    return true
  })
  // 2. what is of the same status, once it is ripe
  const reserved = new Set<StatusMessage>()
  const leftOver = unlike.filter((write) => {
    if (isRepeated(write)) {
      done.push(write.id)
      return false
    }
    for (const from of [open, missing]) {
      const like = from.find((each) => !reserved.has(each) && each.ours.status === write.status)
      if (like === undefined) continue
      if (like.ripe) pair(from, like, write)
      else reserved.add(like)
      return false
    }
    return true
  })
  // 3. in sequence, what has no counterpart: a write of another status than was asked for, or none
  for (const message of open.filter((each) => each.ripe && !reserved.has(each))) {
    // The write left over may be that of a message that is still to come.
    if (order.underway && leftOver.length > 0) break
    const write = message.ours.as === 'write' ? leftOver.shift() : undefined
    if (write !== undefined) {
      pair(open, message, write)
      continue
    }
    open.splice(open.indexOf(message), 1)
    const neither = message.ours.as === 'parked' || !order.inShop
    const difference = { field: 'row', ours: describeOurs(message.ours), theirs: undefined }
    compared.push({ ...identity(message), differences: neither ? [] : [difference] })
  }
  // 4. writes that no message asked for
  for (const write of leftOver) {
    if (!write.ripe || order.underway || open.length > 0) continue
    done.push(write.id)
    if (!order.fromTheStart) continue
    const difference = { field: 'row', ours: undefined, theirs: describeTheirs(write) }
    unasked.push({ crmWriteId: write.id, orderId, difference })
  }
  return { compared, unasked, done }
}

/** A message and what CRM is known to have made of it. */
interface Written {
  readonly ours: OurWrite
  readonly known: Readonly<Record<string, string | null>>
}

/** A redelivery makes CRM write the same once more, also where it was not what was asked for. */
function wrote({ ours, known }: Written, write: CrmWrite): boolean {
  if (sameWrite(ours, write)) return true
  if (known['row'] !== undefined) return known['row'] === describeTheirs(write)
  if (ours.as === 'parked' || Object.keys(known).length === 0) return false
  const status = known['status'] ?? ours.status
  // A price that was not asked for is there already when the write comes again.
  if (ours.price === undefined) return status === write.status && !write.repriced
  const price = known['price'] ?? ours.price
  const currency = known['currency'] ?? ours.currency
  return sameWrite({ as: 'write', status, price, currency }, write)
}
