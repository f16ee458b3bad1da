import type { Path } from '../../contracts/order.ts'
import { bucketOf } from '../../contracts/path-share.ts'

/** A decision as it was recorded at its seam. */
export interface Decision {
  readonly orderId: string
  /** What its bucket is made of, where that is not its id. */
  readonly key?: string
  readonly path: Path
  /** False where the share was not asked, such as an order that CRM had begun: it would be legacy at any share. */
  readonly byShare: boolean
  /** It was one of an exact count beyond the share. */
  readonly byToken: boolean
  readonly ageMs: number
}

export interface Replayed {
  readonly orders: number
  /** As they were decided. */
  readonly legacy: number
  readonly direct: number
  /** Of the direct ones. */
  readonly byToken: number
  /** As they would have been decided at the planned share, in the order of the decisions. */
  readonly wouldGoDirect: readonly string[]
  readonly wouldMove: readonly string[]
  /** Direct as decided, and legacy at the planned share. */
  readonly wouldFallBack: readonly string[]
  /** Over the time that the decisions span. */
  readonly perHour: {
    readonly legacy: number
    readonly direct: number
    readonly directThen: number
  }
  /** In the busiest minute of them. */
  readonly peakDirectPerMinute: number
}

const minuteMs = 60_000
const hourMs = 3_600_000

/** What the seam would have decided at another share: the same function of order and seed as there. */
export function replayDecisions(
  decisions: readonly Decision[],
  {
    share,
    seed,
    windowMs,
  }: { readonly share: number; readonly seed: number; readonly windowMs: number },
): Replayed {
  const goesDirect = ({ orderId, key, byShare }: Decision): boolean =>
    byShare && bucketOf(key ?? orderId, seed) < share
  const then = decisions.filter(goesDirect)
  const direct = decisions.filter(({ path }) => path === 'direct')
  // A capture that is younger than the window has not counted all of it.
  const spanMs = Math.min(
    windowMs,
    decisions.reduce((longest, { ageMs }) => Math.max(longest, ageMs), minuteMs),
  )
  const perHour = (count: number): number => (count * hourMs) / spanMs
  const minutes = new Map<number, number>()
  for (const { ageMs } of then) {
    const minute = Math.floor(ageMs / minuteMs)
    minutes.set(minute, (minutes.get(minute) ?? 0) + 1)
  }
  const ids = (some: readonly Decision[]): string[] => some.map(({ orderId }) => orderId)
  return {
    orders: decisions.length,
    legacy: decisions.length - direct.length,
    direct: direct.length,
    byToken: direct.filter(({ byToken }) => byToken).length,
    wouldGoDirect: ids(then),
    wouldMove: ids(then.filter(({ path }) => path === 'legacy')),
    wouldFallBack: ids(direct.filter((each) => !goesDirect(each))),
    perHour: {
      legacy: perHour(decisions.length - direct.length),
      direct: perHour(direct.length),
      directThen: perHour(then.length),
    },
    peakDirectPerMinute: [...minutes.values()].reduce((most, each) => Math.max(most, each), 0),
  }
}
