import { formatShare } from '../contracts/path-share.ts'
import type { Pool } from '../runtime/postgres.ts'
import { readPhase } from './phase-state.ts'
import type { PhaseId } from './phases.ts'
import { noteEvent } from './timeline.ts'
import { setWish } from './unleash/set-wish.ts'
import type { UnleashAdmin } from './unleash/unleash-admin.ts'
import { readWish, writeWish } from './wish.ts'

export interface WishPlace {
  readonly ledger: Pool
  /** Where there is one, the wish stands in Unleash, and only the reconciler hears it. */
  readonly unleash: UnleashAdmin | undefined
}

interface By {
  readonly who: string
  readonly why: string
}

/**
 * Says what is wanted: to Unleash where there is one, so that its page and we never disagree, and else to the reconciler itself.
 * @throws StranglerError those of setWish
 */
export async function expressWish(
  { ledger, unleash }: WishPlace,
  phase: PhaseId,
  share: number,
  by: By,
): Promise<void> {
  if (unleash === undefined) {
    await writeWish(ledger, phase, { share, source: 'command', ...by })
    return
  }
  await setWish(unleash, phase, share)
  // Unleash's own log knows only whose token it was.
  await noteEvent(ledger, {
    phase,
    kind: 'wish',
    who: by.who,
    says: `asks Unleash for ${formatShare(share)}: ${by.why}`,
    detail: { share, source: 'unleash', why: by.why },
  })
}

/**
 * After a way back nobody should want more by mistake. Best effort, for the phase is pinned anyway: returns what did not work.
 */
export async function withdrawWish(
  place: WishPlace,
  phase: PhaseId,
  by: By,
): Promise<string | undefined> {
  const wish = await readWish(place.ledger, phase)
  const { share } = await readPhase(place.ledger, phase)
  if (wish?.share !== undefined && wish.share <= share) return undefined
  if (wish === undefined && place.unleash === undefined) return undefined
  return expressWish(place, phase, share, by).then(
    () => undefined,
    (error: unknown) => {
      const wanted = wish?.share === undefined ? 'unknown' : formatShare(wish.share)
      return `the wish stays ${wanted}: ${error instanceof Error ? error.message : String(error)}`
    },
  )
}
