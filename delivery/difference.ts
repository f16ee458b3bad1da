/** What the Shop's row lacks of the MES's. */
export interface Lacking {
  /** Undefined: it has the status already, or a later one. */
  readonly status: string | undefined
  /** Exact decimal text; undefined: it has the price already. */
  readonly price: string | undefined
  readonly currency: string | undefined
}

/**
 * What may be done about a difference; each is carried out only on evidence, see redrive.ts.
 * back to CRM: unclaim it in the Shop DB, CRM sends it again. forward again: the bridge asks for evidence and sends what it
 * holds of CRM's once more, since it would take a second message of CRM for a repetition. decide again: send CRM's approval or closing once more, which
 * the MES takes once. ring again: wake the courier. send again: the receiver is proved not to have it, a new generation.
 */
type TransportRemedy =
  | { readonly act: 'back to CRM' }
  | { readonly act: 'forward again' }
  | {
      readonly act: 'decide again'
      readonly source: string
      readonly status: 'MANUFACTURING_APPROVED' | 'CLOSED'
    }
  | { readonly act: 'ring again'; readonly gen: number }
  | { readonly act: 'send again'; readonly gen: number; readonly from: 'delivered' | 'dead' }

/**
 * tell the Shop: what the MES's row says goes into the status inbox, as if it had told it just now. tell CRM again: the bridge
 * sends the messages of the MES once more that end in `status`.
 */
export type StatusRemedy =
  | { readonly act: 'tell the Shop'; readonly lacks: Lacking }
  | { readonly act: 'tell CRM again'; readonly lacks: Lacking; readonly status: string }

export type Remedy = TransportRemedy | StatusRemedy

export type DifferenceKind =
  | 'lost'
  | 'stuck'
  | 'duplicate'
  | 'ghost'
  | 'price mismatch'
  | 'model missing'

export interface Difference {
  readonly kind: DifferenceKind
  /** Which way what is missing was to go: an order, approval or closing to the MES, a status or price to the Shop. */
  readonly toward: 'MES' | 'Shop'
  readonly orderId: string
  readonly says: string
  readonly remedy: Remedy | undefined
  /**
   * It is late, and where it is known: it moves on by itself, or another gate sees what holds it up (lag, in doubt, parked). So it
   * is no order that nobody can explain.
   */
  readonly waits: boolean
}

export type AddDifference = (
  kind: DifferenceKind,
  says: string,
  remedy?: Remedy,
  waits?: boolean,
) => void
