import { wholeShare } from '../../contracts/path-share.ts'
import { strategyName } from './flag-shape.ts'

/** A flag as Unleash tells it, to clients or by its admin API; nothing of it is taken for granted. */
export interface ToldFlag {
  readonly enabled: boolean
  readonly strategies: readonly ToldStrategy[]
  /** Names of flags that must be on for this one. */
  readonly parents: readonly string[]
}

export interface ToldStrategy {
  readonly name: string
  readonly parameters: Readonly<Record<string, unknown>>
  readonly constraints: number
  readonly segments: number
}

export type FlagShare =
  | { readonly state: 'known'; readonly share: number }
  | { readonly state: 'unknown'; readonly reason: string }

/**
 * What people mean by a flag, as a share. Off is 0. On is a share only when it is one plain rollout: whatever picks orders by
 * something else than their share can not be carried out at our seams, and half of it would be carried out wrong.
 */
export function shareOfFlag(flag: ToldFlag): FlagShare {
  if (!flag.enabled) return { state: 'known', share: 0 }
  if (flag.parents.length > 0)
    return unknown(
      `it depends on another flag (${flag.parents.join(', ')}): remove that in Unleash`,
    )
  const [strategy, ...more] = flag.strategies
  if (strategy === undefined)
    return unknown('it is on without a strategy that is active: give it one gradual rollout')
  if (more.length > 0)
    return unknown(`it has ${1 + more.length} strategies: leave one gradual rollout`)
  if (strategy.constraints > 0)
    return unknown(
      'its strategy has constraints, and a phase takes a share of all orders: remove them',
    )
  if (strategy.segments > 0)
    return unknown(
      'its strategy has segments, and a phase takes a share of all orders: remove them',
    )
  if (strategy.name === 'default') return { state: 'known', share: wholeShare }
  if (strategy.name !== strategyName)
    return unknown(`its strategy is ${strategy.name}: make it a gradual rollout`)
  const percent = wholePercent(strategy.parameters['rollout'])
  if (percent === undefined) return unknown('its rollout is no whole percent from 0 to 100: set it')
  return { state: 'known', share: percent * 100 }
}

/** Unleash tells numbers as text. */
export function wholePercent(told: unknown): number | undefined {
  const text = typeof told === 'number' ? String(told) : told
  if (typeof text !== 'string' || !/^\d{1,3}$/.test(text)) return undefined
  const percent = Number(text)
  return percent <= 100 ? percent : undefined
}

function unknown(reason: string): FlagShare {
  return { state: 'unknown', reason }
}

/** Reads what came over the wire; undefined when it has not the form of a flag. */
export function readToldFlag(told: unknown): ToldFlag | undefined {
  if (!isRecord(told) || typeof told['enabled'] !== 'boolean') return undefined
  const strategies = listOf(told['strategies']).map(readToldStrategy)
  const parents = listOf(told['dependencies']).map((each) =>
    isRecord(each) ? String(each['feature']) : String(each),
  )
  const read = strategies.filter((strategy) => strategy !== undefined)
  if (read.length !== strategies.length) return undefined
  return { enabled: told['enabled'], strategies: read, parents }
}

function readToldStrategy(told: unknown): ToldStrategy | undefined {
  if (!isRecord(told) || typeof told['name'] !== 'string') return undefined
  const { parameters } = told
  return {
    name: told['name'],
    parameters: isRecord(parameters) ? parameters : {},
    constraints: listOf(told['constraints']).length,
    segments: listOf(told['segments']).length,
  }
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}
