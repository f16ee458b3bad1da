import { listPartners } from '../../adapters/partners/partners.ts'
import { StranglerError } from '../../contracts/errors.ts'
import type { Phase } from '../../flags/phases.ts'
import { requireMigrations } from '../../runtime/apply-migrations.ts'
import type { Invocation } from './command.ts'
import { nearest } from './nearest.ts'

/** `--first`, and whose orders alone with `--partner`. */
export interface CountedStep {
  readonly first: number
  readonly partner: string | undefined
}

/**
 * Undefined without `--first`.
 * @throws StranglerError `invalid_argument`, or `refused` for a partner whose orders do not come to the intake
 */
export async function readCountedStep(
  { text, connections }: Pick<Invocation, 'text' | 'connections'>,
  phase: Phase,
): Promise<CountedStep | undefined> {
  const first = readCount(text('first'))
  const partner = text('partner')
  if (partner === undefined) return first === undefined ? undefined : { first, partner }
  if (first === undefined)
    throw new StranglerError('invalid_argument', '--partner goes with --first only')
  if (phase.seam !== 'intake')
    throw new StranglerError(
      'invalid_argument',
      `--partner does not go with ${phase.id}: only partner-intake decides by partners`,
    )
  await requirePartnerBehindIntake(connections, partner)
  return { first, partner }
}

/** "5 orders of Acme". */
export function countedOrders({ first, partner }: CountedStep): string {
  return `${first} orders${partner === undefined ? '' : ` of ${partner}`}`
}

function readCount(given: string | undefined): number | undefined {
  if (given === undefined) return undefined
  if (/^[1-9]\d{0,5}$/.test(given)) return Number(given)
  throw new StranglerError(
    'invalid_argument',
    `--first expected to be a count of orders, such as 5, got ${given}`,
  )
}

async function requirePartnerBehindIntake(
  connections: Invocation['connections'],
  partner: string,
): Promise<void> {
  // Before anything is journaled: a flip that was intended is carried out, and this one could not be.
  await requireMigrations(connections.urlOf('INTAKE_URL'), 'intake')
  const partners = await listPartners(connections.intake())
  const found = partners.find(({ id }) => id === partner)
  if (found === undefined) {
    const near = nearest(
      partner,
      partners.map(({ id }) => id),
    )
    const hint =
      near === undefined ? '"strangler partner list" names them' : `did you mean ${near}?`
    throw new StranglerError('not_found', `there is no partner ${partner}; ${hint}`)
  }
  if (found.route !== 'intake')
    throw new StranglerError(
      'refused',
      `${partner} is not behind the intake, so none of its orders would be taken; next: strangler partner enter ${partner}`,
    )
}
