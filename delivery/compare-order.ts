import { statusRank } from '../contracts/order.ts'
import type { DeliveryState, Path } from '../contracts/order.ts'

/** One order as each side has it. All ages are milliseconds, measured on the clock of the side that says them. */
export interface OrderSides {
  readonly orderId: string
  readonly shop: ShopSide | undefined
  readonly ledger: LedgerSide | undefined
  /** The last message of the order per routing key, as the bridges saw it. */
  readonly mail: ReadonlyMap<string, MailSide>
  readonly mes: MesSide | undefined
}

export interface ShopSide {
  readonly orderId: string
  readonly source: string
  readonly status: string
  readonly price: string | null
  readonly claimed: boolean
  readonly claimedForMs: number | undefined
  readonly quietForMs: number
  /** Undefined = submitted before our trigger was there, or born in the MES. */
  readonly captured: { readonly path: string; readonly relayed: boolean } | undefined
}

export interface LedgerSide {
  readonly origin: string
  readonly path: Path
  readonly state: DeliveryState
  readonly gen: number
  /** Since the last change of state or ring; of one that is still to be sent, since it was accepted or redriven. */
  readonly quietForMs: number
}

export interface MailSide {
  readonly state: string
  readonly ageMs: number
}

export interface MesSide {
  readonly rows: number
  readonly status: string
  readonly price: string | null
  readonly quietForMs: number
}

/**
 * What may be done about a difference; each is carried out only on evidence, see redrive.ts.
 * back to CRM: unclaim it in the Shop DB, CRM sends it again. forward again: the bridge asks for evidence and sends what it
 * holds of CRM's once more, since it would take a second message of CRM for a repetition. decide again: send CRM's approval or closing once more, which
 * the MES takes once. ring again: wake the courier. send again: the receiver is proved not to have it, a new generation.
 */
export type Remedy =
  | { readonly act: 'back to CRM' }
  | { readonly act: 'forward again' }
  | {
      readonly act: 'decide again'
      readonly source: string
      readonly status: 'MANUFACTURING_APPROVED' | 'CLOSED'
    }
  | { readonly act: 'ring again'; readonly gen: number }
  | { readonly act: 'send again'; readonly gen: number; readonly from: 'delivered' | 'dead' }

export type DifferenceKind = 'lost' | 'stuck' | 'duplicate' | 'ghost' | 'price mismatch'

export interface Difference {
  readonly kind: DifferenceKind
  readonly orderId: string
  readonly says: string
  readonly remedy: Remedy | undefined
}

/** The differences of one order. Whatever changed within the watermark is under way, and not a difference. */
export function compareOrder(sides: OrderSides, watermarkMs: number): Difference[] {
  const { orderId, mes } = sides
  const found: Difference[] = []
  const add = (kind: DifferenceKind, says: string, remedy?: Remedy): void => {
    found.push({ kind, orderId, says, remedy })
  }
  if (mes !== undefined && mes.rows > 1) add('duplicate', `the MES works on it ${mes.rows} times`)
  if (isGhost(sides)) add('ghost', `the MES works on it (${mes?.status}), and nobody sent it`)
  else compareTransport(sides, watermarkMs, add)
  compareProgress(sides, watermarkMs, add)
  return found
}

type Add = (kind: DifferenceKind, says: string, remedy?: Remedy) => void

/** An order that the Shop took before our trigger was there has no ledger row and is none of ours. */
function isGhost({ shop, ledger, mes }: OrderSides): boolean {
  if (mes === undefined || ledger !== undefined) return false
  return shop === undefined || shop.captured?.path === 'direct'
}

function compareTransport(sides: OrderSides, watermarkMs: number, add: Add): void {
  const { shop, ledger, mes } = sides
  if (ledger === undefined) {
    if (shop?.captured !== undefined && shop.quietForMs > watermarkMs) {
      add(
        'stuck',
        'it is in the outbox of the Shop DB and not in the ledger: is the relay running?',
      )
    }
  } else if (ledger.quietForMs > watermarkMs) {
    if (ledger.path === 'direct') compareDirect(sides, ledger, add)
    else compareLegacy(sides, watermarkMs, add)
    if (shop === undefined && mes !== undefined) {
      add('stuck', `the Shop DB does not have it (${ledger.origin})`)
    }
  }
}

/** Under these something is told to the MES; a message of an order under any other key comes from it. */
export const keysToMes: readonly string[] = ['order.submitted', 'order.approved', 'order.closed']

/** What is not in the MES any more may have been archived there, and is never sent again. */
export function mesHadIt({ shop, mail }: Pick<OrderSides, 'shop' | 'mail'>): boolean {
  return (
    (shop !== undefined && shop.status !== 'SUBMITTED') ||
    [...mail.keys()].some((key) => !keysToMes.includes(key))
  )
}

function compareDirect(sides: OrderSides, ledger: LedgerSide, add: Add): void {
  const { mes, shop } = sides
  const { state, gen } = ledger
  if (
    mes === undefined &&
    (state === 'delivered' || state === 'accepted' || state === 'dead') &&
    mesHadIt(sides)
  ) {
    const told = shop === undefined ? 'the MES told of it' : `the Shop says ${shop.status}`
    add('lost', `${told}, the ledger ${state}, and the MES does not have it any more`)
    return
  }
  switch (state) {
    case 'delivered':
      if (mes === undefined) {
        add('lost', 'it was delivered, and the MES does not have it', {
          act: 'send again',
          gen,
          from: state,
        })
      }
      break
    case 'accepted':
      if (mes === undefined)
        add('stuck', 'it is accepted, and no courier has got it into the MES', {
          act: 'ring again',
          gen,
        })
      else add('stuck', 'the MES has it, and the ledger is about to send it: a person must look')
      break
    case 'sending':
      add('stuck', 'a courier holds it, and does not end')
      break
    case 'in_doubt':
      add('stuck', 'it may have been sent: waits for evidence, and is never sent again without')
      break
    case 'dead':
      if (mes === undefined)
        add('lost', 'the receiver refused it for good', { act: 'send again', gen, from: state })
      break
    case 'cancelled':
      break
  }
}

function compareLegacy(sides: OrderSides, watermarkMs: number, add: Add): void {
  const { shop, mail, mes } = sides
  if (mes !== undefined || shop === undefined) {
    if (shop === undefined && mes === undefined)
      add('lost', 'neither the Shop DB nor the MES has it')
    return
  }
  if (shop.source !== 'shop' || mesHadIt(sides)) {
    add('lost', `the Shop says ${shop.status}, and the MES does not have it any more`)
    return
  }
  const submitted = mail.get('order.submitted')
  if (submitted !== undefined) {
    if (submitted.ageMs <= watermarkMs) return
    if (submitted.state === 'forwarded') {
      add('lost', 'the bridge passed it on, and the MES does not have it', { act: 'forward again' })
    } else add('stuck', `its message is ${submitted.state} at the bridge`)
  } else if (!shop.claimed) {
    if (shop.quietForMs > watermarkMs) add('stuck', 'CRM has not taken it up')
  } else if ((shop.claimedForMs ?? 0) > watermarkMs) {
    add('lost', 'CRM took it up and sent nothing', { act: 'back to CRM' })
  }
}

function compareProgress(
  { shop, ledger, mail, mes }: OrderSides,
  watermarkMs: number,
  add: Add,
): void {
  if (shop === undefined || mes === undefined) return
  // Of an order that neither side has touched since, and of no message of which the bridge saw anything lately.
  const youngest = Math.min(
    shop.quietForMs,
    mes.quietForMs,
    ...[...mail.values()].map((each) => each.ageMs),
  )
  if (youngest <= watermarkMs) return
  const inShop = statusRank(shop.status)
  const inMes = statusRank(mes.status)
  if (inShop > inMes) {
    const remedy = decisionAgain(shop, mes)
    const key = remedy?.status === 'CLOSED' ? 'order.closed' : 'order.approved'
    const atBridge = mail.get(key)
    const waits = atBridge !== undefined && atBridge.state !== 'forwarded'
    const where = waits ? `; ${key} is ${atBridge.state} at the bridge` : ''
    add(
      'stuck',
      `the Shop says ${shop.status}, the MES ${mes.status}${where}`,
      waits ? undefined : remedy,
    )
  } else if (inMes > inShop) {
    add(
      'stuck',
      `the MES says ${mes.status}, the Shop ${shop.status}: what the MES told did not arrive`,
    )
  } else if (mes.price !== null && !samePrice(mes.price, shop.price)) {
    add(
      'price mismatch',
      `the MES says ${mes.price}, the Shop ${shop.price ?? 'nothing'} (${ledger?.path ?? 'no'} path)`,
    )
  }
}

/** The MES takes an approval only after its price, and a closing only after shipping, and each of them once. */
function decisionAgain(
  shop: ShopSide,
  mes: MesSide,
): (Remedy & { act: 'decide again' }) | undefined {
  const { source } = shop
  if (shop.status === 'MANUFACTURING_APPROVED' && mes.status === 'PRICE_CALCULATED') {
    return { act: 'decide again', source, status: 'MANUFACTURING_APPROVED' }
  }
  if (shop.status === 'CLOSED' && mes.status === 'SHIPPED') {
    return { act: 'decide again', source, status: 'CLOSED' }
  }
  return undefined
}

function samePrice(a: string, b: string | null): boolean {
  return b !== null && withoutZeros(a) === withoutZeros(b)
}

function withoutZeros(price: string): string {
  return price.includes('.') ? price.replace(/\.?0+$/, '') : price
}
