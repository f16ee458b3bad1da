import { StranglerError } from '../contracts/errors.ts'
import { wholeShare } from '../contracts/path-share.ts'

/**
 * A phase as data. `id` is its name everywhere: in the journal, in `strangler.route`, in the runbook. The seam is the one
 * place where its decision is made, and stored with what was decided.
 */
export interface Phase {
  readonly id: string
  readonly arrow: string
  /** `shop-route` = the row of the phase in `strangler.route`, read by the trigger on the Shop's orders. */
  readonly seam: 'shop-route'
  readonly decidedPer: 'order'
  readonly storedIn: string
  /** Shares in ten-thousandths, rising. */
  readonly steps: readonly number[]
  /** What a person gets who rolls it back. */
  readonly rollback: string
  readonly runbook: string
}

/** The same for every phase: seams agree on an order's bucket, and a higher share only adds orders. */
export const migrationSeed = 1

export const phases = [
  {
    id: 'orders-direct',
    arrow: 'Shop -> MES',
    seam: 'shop-route',
    decidedPer: 'order',
    storedIn: 'strangler.outbox of the Shop DB, in the transaction that sets SUBMITTED',
    steps: [wholeShare / 10, wholeShare / 2, wholeShare],
    rollback:
      'new orders take the legacy path through CRM; orders that are on the direct path already finish there',
    runbook: 'runbooks/orders-direct.md',
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
