import { StranglerError } from '../../contracts/errors.ts'
import { compareFlag, type FlagDifference } from './compare-flag.ts'
import { flagType, type PhaseFlag, rolloutGroup, strategyName } from './flag-shape.ts'
import type { FlagState, UnleashAdmin } from './unleash-admin.ts'

export interface Applied {
  /** What was done, a line each; empty when all was as it should be. */
  readonly done: readonly string[]
  /** What only people can mend. */
  readonly left: readonly FlagDifference[]
  readonly state: FlagState
}

/**
 * Makes a flag what its phase wants, as far as that changes nobody's wish. Each step may be repeated, and a run that was ended
 * between two of them is ended by the next. A new flag is on at 0 %, so that moving its rollout is all there is to do.
 */
export async function applyFlag(admin: UnleashAdmin, flag: PhaseFlag): Promise<Applied> {
  const done: string[] = []
  const tried = new Set<FlagDifference['mend']>()
  for (;;) {
    const state = await admin.readFlag(flag.id)
    const differences = compareFlag(flag, state)
    const next = differences.find((each) => each.mend !== 'by people')
    if (next === undefined) return { done, left: differences, state }
    if (tried.has(next.mend))
      throw new StranglerError(
        'flag_server_refused',
        `${flag.id}: ${next.says}, although Unleash took the change; somebody else may be changing it`,
      )
    tried.add(next.mend)
    done.push(await mend(admin, flag, next))
  }
}

async function mend(
  admin: UnleashAdmin,
  flag: PhaseFlag,
  difference: FlagDifference,
): Promise<string> {
  const about = { type: flagType, description: flag.description }
  const atZero = { rollout: '0', ...rolloutGroup }
  switch (difference.mend) {
    case 'create':
      await admin.createFlag(flag.id, about)
      await admin.addStrategy(flag.id, strategyName, atZero)
      await admin.setEnabled(flag.id, true)
      return 'created: on, at 0 %'
    case 'revive':
      await admin.revive(flag.id)
      return 'revived from the archive; it is off until somebody switches it on'
    case 'describe':
      await admin.describeFlag(flag.id, about)
      return `${difference.says}: mended`
    case 'add strategy':
      await admin.addStrategy(flag.id, strategyName, atZero)
      return `${difference.says}: it has a gradual rollout at 0 % now`
    case 'change strategy':
      await admin.changeStrategy(flag.id, difference.strategyId, difference.change)
      return `${difference.says}: mended`
    case 'by people':
    default:
      return difference.says
  }
}
