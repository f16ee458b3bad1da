import { formatShare, wholeShare } from '../../contracts/path-share.ts'
import { formatDuration } from '../../runtime/duration.ts'
import type { RetireEvidence } from './legacy-evidence.ts'

/** Every one, or none: then the legacy way is proved to be dead. */
export function reasonsNotToRetire(evidence: RetireEvidence, quietMs: number): string[] {
  const { state, route, wholeForMs, lastSeen, stragglers, stragglerCount } = evidence
  const reasons: string[] = []
  if (state.share !== wholeShare)
    reasons.push(`${formatShare(state.share)} are in force, not ${formatShare(wholeShare)}`)
  if (state.step !== 'complete') reasons.push(`the last flip is only "${state.step}"`)
  if (route?.share !== state.share || route.epoch !== state.epoch) {
    reasons.push(
      `the route says ${route === undefined ? 'nothing' : `${formatShare(route.share)}, epoch ${route.epoch}`}, the journal ${formatShare(state.share)}, epoch ${state.epoch}`,
    )
  }
  if (state.share === wholeShare && !(wholeForMs !== undefined && wholeForMs >= quietMs)) {
    const since =
      wholeForMs === undefined ? 'since nobody knows when' : `for ${formatDuration(wholeForMs)}`
    reasons.push(`all is direct only ${since}, and ${formatDuration(quietMs)} are needed`)
  }
  for (const { what, ageMs, orderId } of lastSeen) {
    if (ageMs === undefined || ageMs >= quietMs) continue
    // A value that is no number is no proof either.
    const age = Number.isFinite(ageMs)
      ? `${formatDuration(Math.max(0, ageMs))} ago`
      : 'at no known time'
    reasons.push(`the last ${what} was ${age}${orderId === undefined ? '' : `: ${orderId}`}`)
  }
  if (stragglerCount > 0) {
    const words = stragglers.map(({ orderId, says }) => `${orderId} (${says})`)
    const more = stragglerCount - stragglers.length
    reasons.push(
      `${stragglerCount} legacy orders are not closed: ${words.join(', ')}${more > 0 ? ` and ${more} more` : ''}`,
    )
  }
  return reasons
}
