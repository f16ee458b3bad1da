import { StranglerError } from '../contracts/errors.ts'
import { wholeShare } from '../contracts/path-share.ts'

/**
 * A phase as data. `id` is its name everywhere: in the journal, in `strangler.route`, in the runbook. The seam is the one
 * place where its decision is made, and stored with what was decided.
 */
export interface Phase {
  readonly id: string
  readonly arrow: string
  /**
   * Whose database holds the phase's row in `strangler.route`. shop: the trigger on the Shop's orders reads it. ledger: the
   * bridge on MES -> CRM reads it. intake: the partner intake reads it; where there is none, there is no such phase.
   */
  readonly seam: 'shop' | 'ledger' | 'intake'
  readonly decidedPer: 'order'
  readonly storedIn: string
  /** Shares in ten-thousandths, rising. */
  readonly steps: readonly number[]
  /** What a person gets who advances it, and who rolls it back. */
  readonly advance: string
  readonly rollback: string
  readonly runbook: string
}

/** The same for every phase: seams agree on an order's bucket, and a higher share only adds orders. */
export const migrationSeed = 1

export const phases = [
  {
    id: 'orders-direct',
    arrow: 'Shop -> MES',
    seam: 'shop',
    decidedPer: 'order',
    storedIn: 'strangler.outbox of the Shop DB, in the transaction that sets SUBMITTED',
    steps: [wholeShare / 10, wholeShare / 2, wholeShare],
    advance: 'new orders go the new way in that share; those under way finish where they are',
    rollback:
      'new orders take the legacy path through CRM; orders that are on the direct path already finish there',
    runbook: 'runbooks/orders-direct.md',
  },
  {
    id: 'statuses-direct',
    arrow: 'MES -> Shop',
    seam: 'ledger',
    decidedPer: 'order',
    storedIn: "order_ledger.status_path, at the order's first status",
    steps: [wholeShare / 10, wholeShare / 2, wholeShare],
    advance:
      'orders whose first status is still to come get all of them without CRM in that share; those that CRM has begun it finishes',
    rollback:
      'orders whose first status is still to come get it through CRM; statuses of orders that are on the direct path keep coming direct until the order is closed',
    runbook: 'runbooks/statuses-direct.md',
  },
  {
    id: 'partner-intake',
    arrow: 'partner -> MES',
    seam: 'intake',
    decidedPer: 'order',
    storedIn: 'partner_order of the intake DB, in the transaction that accepts the order',
    steps: [wholeShare / 10, wholeShare / 2, wholeShare],
    advance:
      'new orders of partners behind the intake are accepted there in that share; the MES gets them from its queue',
    rollback:
      'new orders of partners are passed on to the MES; those that the intake has accepted are delivered, and a retry still gets its first answer',
    runbook: 'runbooks/partner-intake.md',
  },
] as const satisfies readonly Phase[]

export type PhaseId = (typeof phases)[number]['id']

/** @throws StranglerError `not_found` */
export function findPhase(id: string): Phase & { readonly id: PhaseId } {
  const found = phases.find((phase) => phase.id === id)
  if (found !== undefined) return found
  throw new StranglerError(
    'not_found',
    `phase ${id}; there is ${phases.map((phase) => phase.id).join(', ')}`,
  )
}

/** The first step above a share, or undefined at the top. */
export function nextStep(phase: Phase, share: number): number | undefined {
  return phase.steps.find((step) => step > share)
}
