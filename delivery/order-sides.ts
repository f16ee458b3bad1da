import type { DeliveryState, Path } from '../contracts/order.ts'
import type { ModelReference } from './model-store.ts'

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
  readonly captured:
    | { readonly path: string; readonly relayed: boolean; readonly at: Date }
    | undefined
  /** Somebody who is neither CRM nor we has set its status or price. */
  readonly othersWrote: boolean
  readonly model: ModelReference | undefined
}

export interface LedgerSide {
  readonly origin: string
  readonly path: Path
  readonly state: DeliveryState
  readonly gen: number
  /** Since the last change of state or ring; of one that is still to be sent, since it was accepted or redriven. */
  readonly quietForMs: number
  /** null: no status of it has come yet. */
  readonly statusPath: Path | null
  /** The first that the status inbox has not settled. */
  readonly statusWaits: {
    readonly id: string
    readonly state: string
    readonly reason: string | null
    readonly ageMs: number
  } | null
}

export interface MailSide {
  readonly state: string
  readonly ageMs: number
}

export interface MesSide {
  readonly rows: number
  readonly status: string
  readonly price: string | null
  readonly currency: string | null
  readonly quietForMs: number
}

/** Whether the MES takes in what is sent to it. */
export interface MesIntake {
  /** Since it took in its latest order, on the MES database's clock; Infinity: it has none. */
  readonly tookLastMs: number
  /** Its latest orders, the latest first. */
  readonly tookLastIds: readonly string[]
  /** Its process was asked just now, and did not answer. */
  readonly isDown: boolean
}

/** How far the MES has come in its queue. */
export interface MesProgress extends MesIntake {
  /** Since the latest order that it has taken out of its queue was sent, by the ledger; Infinity: it has taken none. */
  readonly sentLastMs: number
}
