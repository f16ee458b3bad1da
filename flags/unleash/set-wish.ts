import { StranglerError } from '../../contracts/errors.ts'
import { formatShare, wholeShare } from '../../contracts/path-share.ts'
import type { PhaseId } from '../phases.ts'
import { strategyName } from './flag-shape.ts'
import { shareOfFlag } from './share-of-flag.ts'
import type { UnleashAdmin } from './unleash-admin.ts'

export interface WishSet {
  readonly changed: boolean
  readonly before: number
  readonly share: number
}

/**
 * Makes a share (in ten-thousandths) the wish, as a person would on the flag's page: the rollout, and then the switch.
 * @throws StranglerError `invalid_argument` for a share that is no whole percent; `refused` where the flag is not one that a
 * share can be set on; those of UnleashAdmin
 */
export async function setWish(
  admin: UnleashAdmin,
  phase: PhaseId,
  share: number,
): Promise<WishSet> {
  mustBePercent(share)
  const flag = await admin.readFlag(phase)
  if (flag.state !== 'found') {
    const is = flag.state === 'archived' ? 'is archived' : 'is missing'
    throw new StranglerError(
      'refused',
      `the flag ${phase} ${is} in Unleash; "strangler flags apply" sees to that`,
    )
  }
  const now = shareOfFlag(flag)
  const behindTheSwitch = shareOfFlag({ ...flag, enabled: true })
  const [strategy] = flag.strategies
  if (behindTheSwitch.state === 'unknown' || strategy?.name !== strategyName) {
    const reason =
      behindTheSwitch.state === 'unknown'
        ? behindTheSwitch.reason
        : 'its strategy is no gradual rollout: "strangler flags apply" mends that'
    throw new StranglerError('refused', `the flag ${phase} can take no share: ${reason}`)
  }
  const before = now.state === 'known' ? now.share : 0
  if (before === share) return { changed: false, before, share }
  // The switch last: what stands behind it must not be in force for a moment.
  if (behindTheSwitch.share !== share)
    await admin.changeStrategy(phase, strategy.id, { parameters: { rollout: String(share / 100) } })
  if (!flag.enabled && share > 0) await admin.setEnabled(phase, true)
  return { changed: true, before, share }
}

function mustBePercent(share: number): void {
  if (!Number.isInteger(share) || share < 0 || share > wholeShare) {
    throw new StranglerError('invalid_argument', `a share of ${share} ten-thousandths`)
  }
  if (share % 100 === 0) return
  const below = Math.floor(share / 100) * 100
  throw new StranglerError(
    'invalid_argument',
    `Unleash knows whole percents: ${formatShare(share)} is none, ${formatShare(below)} and ${formatShare(below + 100)} are`,
  )
}
