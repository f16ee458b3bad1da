import { flagType, type PhaseFlag, rolloutGroup, strategyName } from './flag-shape.ts'
import { shareOfFlag, wholePercent } from './share-of-flag.ts'
import type { AdminStrategy, FlagState, FoundFlag } from './unleash-admin.ts'

/** What of a flag is not as its phase wants it. On or off and the rollout are never among it: they are the wish of people. */
export type FlagDifference =
  | { readonly mend: 'create' | 'revive' | 'describe' | 'add strategy'; readonly says: string }
  | StrategyDifference
  /** Whatever we did would change what somebody has decided. */
  | { readonly mend: 'by people'; readonly says: string }

interface StrategyDifference {
  readonly mend: 'change strategy'
  readonly says: string
  readonly strategyId: string
  readonly change: { readonly name?: string; readonly parameters: Record<string, string> }
}

export function compareFlag(flag: PhaseFlag, state: FlagState): FlagDifference[] {
  if (state.state === 'absent')
    return [{ mend: 'create', says: 'there is no such flag in Unleash' }]
  if (state.state === 'archived') return [{ mend: 'revive', says: 'it is archived' }]
  return [...compareAbout(flag, state), ...compareStrategies(state)]
}

function compareAbout(flag: PhaseFlag, found: FoundFlag): FlagDifference[] {
  const wrong = [
    ...(found.type === flagType ? [] : [`its type is ${found.type}, not ${flagType}`]),
    ...(found.description === flag.description ? [] : ['its description is not that of the phase']),
  ]
  return wrong.length === 0 ? [] : [{ mend: 'describe', says: wrong.join('; ') }]
}

function compareStrategies(found: FoundFlag): FlagDifference[] {
  const [only, ...more] = found.strategies
  if (only === undefined && !found.enabled)
    return [{ mend: 'add strategy', says: 'it has no strategy that is active' }]
  const structure = only === undefined || more.length > 0 ? undefined : compareStrategy(only)
  const mended = found.strategies.map((strategy) => ({
    ...strategy,
    name: structure?.change.name ?? strategy.name,
    parameters: { ...strategy.parameters, ...structure?.change.parameters },
  }))
  // As if it were on: what stands behind the switch counts as soon as somebody turns it.
  const meant = shareOfFlag({ ...found, strategies: mended, enabled: true })
  return [
    ...(structure === undefined ? [] : [structure]),
    ...(meant.state === 'known' ? [] : [{ mend: 'by people', says: meant.reason } as const]),
  ]
}

function compareStrategy(strategy: AdminStrategy): StrategyDifference | undefined {
  const { id, name, parameters } = strategy
  if (name !== strategyName) {
    const rollout = percentOf(strategy)
    if (rollout === undefined) return undefined
    return {
      mend: 'change strategy',
      strategyId: id,
      change: { name: strategyName, parameters: { rollout: String(rollout), ...rolloutGroup } },
      says: `its strategy is ${name}, not ${strategyName}; its share is ${rollout} % either way`,
    }
  }
  const wrong = Object.entries(rolloutGroup).filter(([key, value]) => parameters[key] !== value)
  if (wrong.length === 0) return undefined
  return {
    mend: 'change strategy',
    strategyId: id,
    change: { parameters: Object.fromEntries(wrong) },
    says: wrong
      .map(([key, value]) => `its ${key} is ${String(parameters[key])}, not ${value}`)
      .join('; '),
  }
}

/** Of the kinds that are a share and nothing else, so that the change of kind changes no wish. */
function percentOf({ name, parameters }: AdminStrategy): number | undefined {
  switch (name) {
    case 'default':
      return 100
    case 'gradualRolloutUserId':
    case 'gradualRolloutSessionId':
    case 'gradualRolloutRandom':
      return wholePercent(parameters['percentage'])
    default:
      return undefined
  }
}
