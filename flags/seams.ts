import { StranglerError } from '../contracts/errors.ts'
import type { Pool } from '../runtime/postgres.ts'
import { type Phase, phases } from './phases.ts'

/** Where phases are decided. Without the intake's database there is no phase that is decided there. */
export interface Seams {
  readonly ledger: Pool
  readonly shop: Pool
  readonly intake: Pool | undefined
}

/** @throws StranglerError `invalid_configuration` when the phase's database is not set up here */
export function seamOf({ id, seam }: Pick<Phase, 'id' | 'seam'>, seams: Seams): Pool {
  const found = seams[seam]
  if (found !== undefined) return found
  throw new StranglerError(
    'invalid_configuration',
    `${id} is decided in the intake DB, and INTAKE_URL is not set`,
  )
}

/** The phases that can be moved here. */
export function phasesAt({ intake }: Pick<Seams, 'intake'>): readonly (typeof phases)[number][] {
  return phases.filter(({ seam }) => seam !== 'intake' || intake !== undefined)
}
