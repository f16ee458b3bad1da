import { formatShare } from '../contracts/path-share.ts'
import type { PhaseView } from './phase-view.ts'
import { duration } from './words.ts'

export interface Wanted {
  readonly share: number | undefined
  /** In place of a share. */
  readonly word: string
  readonly says: string | undefined
  /** Somebody should look. */
  readonly alarming: boolean
}

/** A wish of the flag server that was not read for this long is none. */
const maxAgeMs = 60_000

/** What people want, and why it is not in force. Unknown is never shown as 0 %. */
export function wanted({ wish, status, gates }: PhaseView): Wanted {
  const { pin } = status
  if (wish === undefined)
    return {
      share: undefined,
      word: 'nobody has wished anything yet',
      says: undefined,
      alarming: false,
    }
  if (wish.share === undefined) return unknown(wish.reason ?? 'no reason given')
  if (wish.source === 'unleash' && wish.ageMs > maxAgeMs)
    return unknown(`it was last read from Unleash ${duration(wish.ageMs)} ago`)
  const known = { share: wish.share, word: formatShare(wish.share), alarming: false }
  if (wish.share === status.share) return { ...known, says: undefined }
  const by = `${wish.who} wants ${formatShare(wish.share)} (“${wish.why}”)`
  if (wish.share < status.share) return { ...known, says: `${by}: going down.` }
  const holding =
    gates.find(({ verdict }) => verdict === 'FAIL') ??
    gates.find(({ verdict }) => verdict !== 'PASS')
  if (pin !== undefined) return { ...known, says: `${by}: not while it is pinned.` }
  if (holding === undefined) return { ...known, says: `${by}: on its way up.` }
  return { ...known, says: `${by}: gate ${holding.gate} is ${holding.verdict}.` }
}

function unknown(why: string): Wanted {
  return {
    share: undefined,
    word: 'wish unknown',
    says: `What is wanted is unknown: ${why}. What is in force stays, and nothing rises.`,
    alarming: true,
  }
}
