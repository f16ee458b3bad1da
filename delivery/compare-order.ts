import { compareProgress } from './compare-progress.ts'
import type { AddDifference, Difference } from './difference.ts'
import type { LedgerSide, MesProgress, OrderSides } from './order-sides.ts'

/** The differences of one order. Whatever changed within the watermark is under way, and not a difference. */
export function compareOrder(sides: OrderSides, watermarkMs: number): Difference[] {
  const { orderId, mes } = sides
  const found: Difference[] = []
  const adding =
    (toward: Difference['toward']): AddDifference =>
    (kind, says, remedy, waits = false) =>
      void found.push({ kind, toward, orderId, says, remedy, waits })
  const add = adding('MES')
  if (mes !== undefined && mes.rows > 1) add('duplicate', `the MES works on it ${mes.rows} times`)
  if (isGhost(sides)) add('ghost', `the MES works on it (${mes?.status}), and nobody sent it`)
  else compareTransport(sides, watermarkMs, add)
  compareProgress(sides, watermarkMs, { toMes: add, toShop: adding('Shop') })
  return found
}

/** An order that the Shop took before our trigger was there has no ledger row and is none of ours. */
function isGhost({ shop, ledger, mes }: OrderSides): boolean {
  if (mes === undefined || ledger !== undefined) return false
  return shop === undefined || shop.captured?.path === 'direct'
}

function compareTransport(sides: OrderSides, watermarkMs: number, add: AddDifference): void {
  const { shop, ledger, mes } = sides
  if (ledger === undefined) {
    if (shop?.captured !== undefined && shop.quietForMs > watermarkMs) {
      if (shop.captured.relayed)
        add('stuck', 'the relay brought it to the ledger, which does not have it any more')
      else
        add(
          'stuck',
          'it is in the outbox of the Shop DB and not in the ledger: is the relay running?',
          undefined,
          true,
        )
    }
  } else if (ledger.quietForMs > watermarkMs) {
    if (ledger.path === 'direct') compareDirect(sides, ledger, add)
    else compareLegacy(sides, watermarkMs, add)
    if (shop === undefined && mes !== undefined) {
      // Of a partner's order CRM makes the Shop's row, in its own time.
      const waits = ledger.origin !== 'shop'
      add('stuck', `the Shop DB does not have it (${ledger.origin})`, undefined, waits)
    }
  }
}

/**
 * True where the MES may still have the order in its queue, which it reads in order: it has taken in nothing that was sent
 * later, and it is down, or comes on. A MES that is up and takes in nothing has lost it.
 */
export function waitsInMesQueue(
  { ledger, mail, mes, shop }: OrderSides,
  intake: MesProgress,
  watermarkMs: number,
): boolean {
  if (mes !== undefined || ledger?.state !== 'delivered' || mesHadIt({ shop, ledger, mail }))
    return false
  if (ledger.quietForMs > intake.sentLastMs + clockErrorMs) return false
  return intake.isDown || intake.tookLastMs <= watermarkMs
}

/** Between two ages that were read one after the other. */
const clockErrorMs = 2000

/** Under these something is told to the MES; a message of an order under any other key comes from it. */
export const keysToMes: readonly string[] = ['order.submitted', 'order.approved', 'order.closed']

/** What is not in the MES any more may have been archived there, and is never sent again. */
export function mesHadIt({
  shop,
  ledger,
  mail,
}: Pick<OrderSides, 'shop' | 'ledger' | 'mail'>): boolean {
  // Of an order that the partner intake has accepted it is the intake that tells CRM.
  const toldByIntake = ledger?.path === 'direct' ? ['order.created'] : []
  return (
    (shop !== undefined && shop.status !== 'SUBMITTED') ||
    [...mail.keys()].some((key) => !keysToMes.includes(key) && !toldByIntake.includes(key))
  )
}

function compareDirect(sides: OrderSides, ledger: LedgerSide, add: AddDifference): void {
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
        add(
          'stuck',
          'it is accepted, and no courier has got it into the MES',
          { act: 'ring again', gen },
          true,
        )
      else add('stuck', 'the MES has it, and the ledger is about to send it: a person must look')
      break
    case 'sending':
      add('stuck', 'a courier holds it, and does not end', undefined, true)
      break
    case 'in_doubt':
      add(
        'stuck',
        'it may have been sent: waits for evidence, and is never sent again without',
        undefined,
        true,
      )
      break
    case 'dead':
      if (mes === undefined)
        add('lost', 'the receiver refused it for good', { act: 'send again', gen, from: state })
      break
    case 'cancelled':
      break
  }
}

function compareLegacy(sides: OrderSides, watermarkMs: number, add: AddDifference): void {
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
    } else add('stuck', `its message is ${submitted.state} at the bridge`, undefined, true)
  } else if (!shop.claimed) {
    if (shop.quietForMs > watermarkMs) add('stuck', 'CRM has not taken it up', undefined, true)
  } else if ((shop.claimedForMs ?? 0) > watermarkMs) {
    add('lost', 'CRM took it up and sent nothing', { act: 'back to CRM' })
  }
}
