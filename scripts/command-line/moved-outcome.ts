import { formatShare } from '../../contracts/path-share.ts'
import type { Moved } from '../../flags/phase-journal.ts'
import type { Outcome } from './command.ts'

/** How a flip is told. */
export function movedOutcome(phase: string, moved: Moved, effect: string): Outcome {
  const lines = moved.changed
    ? [
        `${phase}: ${formatShare(moved.shareBefore)} -> ${formatShare(moved.share)}, in force since epoch ${moved.epoch}`,
        effect,
      ]
    : [
        `${phase}: stands at ${formatShare(moved.share)} already (epoch ${moved.epoch}); nothing changed`,
      ]
  if (moved.complete) {
    if (moved.changed)
      lines.push(
        `complete after ${moved.waitedMs.toFixed(1)} ms: every transaction that was open at the flip has ended, and every process has acknowledged it`,
      )
  } else {
    lines.push(
      `not complete yet: ${moved.heldBy ?? 'a transaction that is older than the flip'} may still decide under the old epoch; ` +
        'say it again when that has ended, nothing is done twice',
    )
  }
  if (!moved.journaled)
    lines.push(
      'the ledger does not answer: this is in force by the route in the Shop DB; the journal follows when the ledger is back',
    )
  const exitCode = moved.complete && moved.journaled ? 0 : 3
  return { exitCode, json: { phase, ...moved }, text: lines.join('\n') }
}
