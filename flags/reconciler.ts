import { inOrder, service } from '../runtime/lifecycle.ts'
import type { Service } from '../runtime/lifecycle.ts'
import type { Log } from '../runtime/log.ts'
import { pollLoop } from '../runtime/poll-loop.ts'
import { readPhase } from './phase-state.ts'
import type { PhaseId } from './phases.ts'
import { reconcilePhase } from './reconcile-phase.ts'
import type { PhaseRound, Reconciling } from './reconcile-phase.ts'
import { continueRollback, receiptInWords } from './rollback.ts'
import type { Drain } from './rollback.ts'
import { writeWish } from './wish.ts'

/** What somebody outside wants, as it stands now. */
export interface WishSource extends Service {
  read(
    phase: PhaseId,
  ):
    | { readonly state: 'known'; readonly share: number }
    | { readonly state: 'unknown'; readonly reason: string }
}

export interface ReconcilerPhase extends Reconciling {
  readonly drain: Drain
}

/** How often it looks for a new wish, and how often it judges without one. */
const lookMs = 200

/**
 * Moves every phase towards its wish, for as long as it runs: a loop each, so that a rollback of one that drains holds up no
 * other. It holds nothing in memory that a second one, or the next, would miss.
 */
export function reconciler(options: {
  readonly phases: readonly ReconcilerPhase[]
  /** Undefined: the wish is what the commands store. */
  readonly wishes: WishSource | undefined
  readonly judgeEveryMs: number
  readonly drainWithinMs: number
  readonly settleWithinMs: number
  readonly log: Log
}): Service {
  const { wishes, log } = options
  let stopping = new AbortController()
  const loops = options.phases.map((phase) => {
    const mirror = mirrorOf(phase, wishes)
    let judgedAt = Number.NEGATIVE_INFINITY
    let said = ''
    return pollLoop({
      name: `reconciler of ${phase.phase}`,
      log,
      idleMs: () => lookMs,
      async work() {
        const changed = await mirror()
        if (!changed && performance.now() - judgedAt < options.judgeEveryMs) return false
        const round = await reconcilePhase(phase)
        judgedAt = performance.now()
        const line = inShort(round)
        if (line !== said) log.info('phase_round', { phase: phase.phase, says: line })
        said = line
        await carryOn(phase)
        return round.did === 'moved'
      },
    })
  })

  async function carryOn(phase: ReconcilerPhase): Promise<void> {
    const state = await readPhase(phase.ledger, phase.phase)
    if (state.last?.verb !== 'rollback' || state.rollback === 'verified') return
    const receipt = await continueRollback({
      ...phase,
      drainWithinMs: options.drainWithinMs,
      settleWithinMs: options.settleWithinMs,
      signal: stopping.signal,
    })
    if (receipt !== undefined)
      log.info('rollback', {
        phase: phase.phase,
        outcome: receipt.outcome,
        says: receiptInWords(receipt),
      })
  }

  const loop = inOrder([...(wishes === undefined ? [] : [wishes]), ...loops])
  return service({
    start() {
      stopping = new AbortController()
      return loop.start()
    },
    stop() {
      stopping.abort()
      return loop.stop()
    },
  })
}

/** Stores what the source says when it changes, and now and then that it still says so. True: it is another share. */
function mirrorOf(
  { ledger, phase }: ReconcilerPhase,
  wishes: WishSource | undefined,
): () => Promise<boolean> {
  let stored = ''
  let storedAt = Number.NEGATIVE_INFINITY
  return async () => {
    if (wishes === undefined) return false
    const wish = wishes.read(phase)
    const key = JSON.stringify(wish)
    const changed = key !== stored
    if (!changed && performance.now() - storedAt < 1000) return false
    await writeWish(ledger, phase, {
      share: wish.state === 'known' ? wish.share : undefined,
      ...(wish.state === 'unknown' && { reason: wish.reason }),
      source: 'unleash',
      who: 'Unleash',
      why: 'the flag says so; its event log says who changed it',
    })
    stored = key
    storedAt = performance.now()
    return changed
  }
}

function inShort(round: PhaseRound): string {
  switch (round.did) {
    case 'blocked':
      return `blocked by ${round.by.map(({ gate, verdict }) => `${gate} (${verdict})`).join(', ')}`
    case 'rolled back':
      return `rolled back: ${round.breach}`
    case 'moved':
      return `moved to ${round.moved.share}, epoch ${round.moved.epoch}`
    case 'unknown':
      return `the wish is unknown: ${round.reason}`
    case 'pinned':
      return `pinned by ${round.pin.who}`
    case 'nothing':
      return 'as wished'
    default:
      return round satisfies never
  }
}
