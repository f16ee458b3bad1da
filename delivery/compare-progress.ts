import { orderStatuses, statusRank } from '../contracts/order.ts'
import type { AddDifference, Lacking, Remedy, StatusRemedy } from './difference.ts'
import type { LedgerSide, MailSide, MesSide, OrderSides, ShopSide } from './order-sides.ts'

/** The keys under which the MES tells a price, and any later status. */
export const priceKey = 'order.price_calculated'
export const statusKey = 'order.status_changed'

/** Status and price of an order in Shop and MES. Whatever changed within the watermark is under way, and not a difference. */
export function compareProgress(
  sides: OrderSides,
  watermarkMs: number,
  { toMes, toShop }: { readonly toMes: AddDifference; readonly toShop: AddDifference },
): void {
  const { shop, ledger, mail, mes } = sides
  if (shop === undefined || mes === undefined) return
  // Of an order that neither side has touched since, and of no message of which the bridge saw anything lately.
  const youngest = Math.min(
    shop.quietForMs,
    mes.quietForMs,
    ledger?.statusWaits?.ageMs ?? Infinity,
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
    toMes(
      'stuck',
      `the Shop says ${shop.status}, the MES ${mes.status}${where}`,
      waits ? undefined : remedy,
      waits,
    )
  } else if (inMes > inShop) {
    toShop(
      'stuck',
      `the MES says ${mes.status}, the Shop ${shop.status}: ${whyBehind(sides)}`,
      tellAgain(sides),
      waitsForStatus(sides),
    )
  } else if (lackingPrice(shop, mes) !== undefined) {
    toShop(
      'price mismatch',
      `the MES says ${mes.price ?? 'nothing'}, the Shop ${shop.price ?? 'nothing'} (statuses ${ledger?.statusPath ?? 'of no path'})`,
      tellAgain(sides),
    )
  }
}

/** What the Shop's row lacks of the MES's; undefined: nothing, or it is ahead. */
export function whatShopLacks(shop: ShopSide, mes: MesSide): Lacking | undefined {
  const ahead = statusRank(mes.status) - statusRank(shop.status)
  const price = lackingPrice(shop, mes)
  if (ahead < 0 || (ahead === 0 && price === undefined)) return undefined
  return {
    status: ahead > 0 ? mes.status : undefined,
    price,
    currency: price === undefined ? undefined : (mes.currency ?? undefined),
  }
}

/** Where somebody else has written, or something of the order waits already, a person must look. */
function tellAgain(sides: OrderSides): StatusRemedy | undefined {
  const { shop, ledger, mes } = sides
  if (shop === undefined || mes === undefined || ledger === undefined) return undefined
  if (mes.rows !== 1 || shop.othersWrote || ledger.statusWaits !== null) return undefined
  const lacks = whatShopLacks(shop, mes)
  if (lacks === undefined) return undefined
  // An approval or closing is CRM's to write, also where only the MES still knows of it.
  if (lacks.status !== undefined && !isOfMes(lacks.status)) return undefined
  if (ledger.statusPath === 'direct') return { act: 'tell the Shop', lacks }
  return ledger.statusPath === 'legacy' && canTellCrm(sides, mes.status, lacks)
    ? { act: 'tell CRM again', lacks, status: mes.status }
    : undefined
}

/** CRM writes what it is told as it comes, so the last message must say what the MES says, and undo nothing of CRM's own. */
function canTellCrm({ mail, shop }: OrderSides, status: string, lacks: Lacking): boolean {
  if (!isOfMes(status)) return false
  const started = statusRank(status) > statusRank('MANUFACTURING_APPROVED')
  const approved =
    statusRank(shop?.status ?? '') >= statusRank('MANUFACTURING_APPROVED') ||
    mail.get('order.approved')?.state === 'forwarded'
  if (started && !approved) return false
  const needed = keysToTell(status, lacks)
  return [priceKey, statusKey].every((key) => {
    const last = mail.get(key)
    return last === undefined ? !needed.includes(key) : isTold(last.state)
  })
}

/** A price message sets the status as well, so a later status follows it. */
export function keysToTell(status: string, lacks: Lacking): string[] {
  const isPrice = status === 'PRICE_CALCULATED'
  return [
    ...(isPrice || lacks.price !== undefined ? [priceKey] : []),
    ...(isPrice ? [] : [statusKey]),
  ]
}

/** Of a legacy order: CRM has had it; or, before the order was repinned, our applier. */
export function isTold(state: string | undefined): boolean {
  return state === 'forwarded' || state === 'diverted'
}

function isOfMes(status: string): boolean {
  const setters: Readonly<Record<string, string>> = orderStatuses
  return Object.hasOwn(setters, status) && setters[status] === 'mes'
}

/** In the status inbox or at the bridge; or CRM was given it, and applies it in its own time. */
function waitsForStatus({ ledger, mail, mes, shop }: OrderSides): boolean {
  if (ledger?.statusWaits != null) return true
  if ([priceKey, statusKey].some((key) => isHeldBack(mail.get(key)))) return true
  if (ledger?.statusPath !== 'legacy' || shop === undefined || mes === undefined) return false
  const lacks = whatShopLacks(shop, mes)
  return (
    lacks !== undefined &&
    keysToTell(mes.status, lacks).every((key) => isTold(mail.get(key)?.state))
  )
}

function isHeldBack(message: MailSide | undefined): boolean {
  return message !== undefined && ['held', 'parked', 'received'].includes(message.state)
}

function whyBehind({ ledger, mail }: OrderSides): string {
  if (ledger?.statusWaits != null) return waiting(ledger.statusWaits)
  for (const key of [priceKey, statusKey]) {
    const message = mail.get(key)
    if (isHeldBack(message)) return `${key} is ${message?.state} at the bridge`
  }
  return 'what the MES told did not arrive'
}

function waiting({ id, state, reason }: NonNullable<LedgerSide['statusWaits']>): string {
  return `its status ${id} is ${state} in the status inbox${reason === null ? '' : ` (${reason})`}`
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

function lackingPrice(shop: ShopSide, mes: MesSide): string | undefined {
  return mes.price === null || samePrice(mes.price, shop.price) ? undefined : mes.price
}

export function samePrice(a: string, b: string | null): boolean {
  return b !== null && withoutZeros(a) === withoutZeros(b)
}

function withoutZeros(price: string): string {
  return price.includes('.') ? price.replace(/\.?0+$/, '') : price
}
