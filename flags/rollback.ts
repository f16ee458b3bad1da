import { setTimeout as pause } from 'node:timers/promises'

import { failpoint } from '../runtime/failpoint.ts'
import type { Pool } from '../runtime/postgres.ts'
import { settlePhase } from './phase-journal.ts'
import type { Databases } from './phase-journal.ts'
import { readPhase } from './phase-state.ts'
import type { RollbackStep } from './phase-state.ts'
import type { PhaseId } from './phases.ts'
import { noteEvent } from './timeline.ts'

/*
 * What a rollback does after its flip (rollbackPhase), each step journaled under the flip's epoch:
 *
 *   drained       nothing is under way on the direct path any more, or the deadline has passed
 *   handed over   what nobody had begun to send is CRM's, each order with its record; "maybe sent" was settled by evidence first
 *   verified      every order that was direct is where it belongs, once
 *
 * Every step may be repeated by anybody. It never gives up an order: what is still being sent, or in doubt, keeps the receipt open.
 */

export interface UnderWay {
  /** Nobody has begun with it: can be handed over. */
  readonly waiting: number
  /** Somebody has it in hand. */
  readonly inHand: number
  /** May have been sent: settled by evidence alone. */
  readonly inDoubt: readonly string[]
}

/** What the direct path of a phase still carries, and how it is emptied. */
export interface Drain {
  /** Of what was decided before this epoch: what came after is none of this rollback's. */
  underWay(epoch: number): Promise<UnderWay>
  /** Gives to the legacy path what nobody has begun with, and ends what an earlier run began. Returns how many. */
  handOver(act: {
    readonly phase: PhaseId
    readonly epoch: number
    readonly who: string
    readonly why: string
  }): Promise<number>
  /** What is wrong with the orders that were direct; empty = nothing. In words, an order each. */
  verify(): Promise<readonly string[]>
  /** For the receipt, from the books alone, so that a second run tells the same. */
  counts(flip: { readonly phase: PhaseId; readonly epoch: number; readonly at: Date }): Promise<{
    readonly finishedDirect: number
    readonly handedOver: number
    readonly settledByEvidence: number
    /** Orders that stay on the direct path by the rules of the phase, such as statuses of an order that began there. */
    readonly stayDirect: number
    /** What waits for something outside or for a person, and keeps the receipt from nothing; in words, the first of them. */
    readonly unsettled: readonly string[]
  }>
}

export interface Receipt {
  readonly phase: PhaseId
  readonly epoch: number
  readonly outcome: 'verified' | 'open' | 'differs'
  readonly finishedDirect: number
  readonly handedOver: number
  readonly settledByEvidence: number
  readonly stayDirect: number
  /** A receipt of an earlier version has none. */
  readonly unsettled?: readonly string[]
  readonly underWay: UnderWay
  readonly differences: readonly string[]
  /** From the flip's being in force. */
  readonly tookMs: number
  readonly who: string
  readonly why: string
}

export interface Rollback extends Databases {
  readonly phase: PhaseId
  readonly drain: Drain
  /** From the flip on: so long may the direct path finish what it has. */
  readonly drainWithinMs: number
  /** And so long after that for what is in hand, for evidence, and for the MES to take what was sent. */
  readonly settleWithinMs: number
  onProgress?(line: string): void
  readonly signal?: AbortSignal
}

interface Flip {
  readonly epoch: number
  readonly at: Date
  readonly elapsedMs: number
  readonly who: string
  readonly why: string
}

/** Carries a rollback on to its receipt. Undefined: the last flip of the phase was none, so there is nothing to carry on. */
export async function continueRollback(rollback: Rollback): Promise<Receipt | undefined> {
  const { ledger, phase, drain } = rollback
  const { state } = await settlePhase({ ...rollback, completeWithinMs: rollback.drainWithinMs })
  if (state.last?.verb !== 'rollback') return undefined
  const flip = await readFlip(ledger, phase, state.epoch)
  if (flip === undefined) return undefined
  const stored = await readReceipt(ledger, phase, state.epoch)
  // What was sent again since is under way like anything else.
  if (stored !== undefined && isEmpty(await drain.underWay(flip.epoch))) return stored

  const started = performance.now()
  const elapsed = (): number => flip.elapsedMs + performance.now() - started
  const act = { phase, epoch: flip.epoch, who: flip.who, why: flip.why }
  const stopped = (): boolean => rollback.signal?.aborted === true
  const lastMs = rollback.drainWithinMs + rollback.settleWithinMs

  // What an earlier run began is ended whatever the time.
  if (state.rollback !== undefined || elapsed() >= rollback.drainWithinMs) await drain.handOver(act)
  let lookTookMs = 0
  const look = async (): Promise<UnderWay> => {
    const began = performance.now()
    const found = await drain.underWay(flip.epoch)
    lookTookMs = performance.now() - began
    return found
  }
  let left = await look()
  let said = ''
  for (;;) {
    if (isEmpty(left) || stopped()) break
    if ((await readPhase(ledger, phase)).epoch !== flip.epoch) return undefined
    const line = inWords(left)
    if (line !== said) rollback.onProgress?.(line)
    said = line
    if (elapsed() >= rollback.drainWithinMs) {
      const handed = await drain.handOver(act)
      if (handed > 0) rollback.onProgress?.(`${handed} handed over to the legacy path`)
      if (elapsed() >= lastMs) break
    }
    // Behind a long backlog to count it costs the databases something: not all the time.
    const pauseMs = Math.max(100, 10 * lookTookMs)
    await pause(pauseMs, undefined, { signal: rollback.signal }).catch(() => undefined)
    left = await look()
  }
  await step(rollback, flip, 'drained', left)
  failpoint('rollback.drained')
  if (isEmpty(left)) {
    await step(rollback, flip, 'handed over', await drain.counts({ ...act, at: flip.at }))
    failpoint('rollback.handed-over')
  }

  let differences = await drain.verify()
  while (differences.length > 0 && elapsed() < lastMs && !stopped()) {
    await pause(200, undefined, { signal: rollback.signal }).catch(() => undefined)
    differences = await drain.verify()
  }
  const completeWithinMs = Math.max(0, lastMs - elapsed())
  const { outcome } = await settlePhase({ ...rollback, completeWithinMs })
  left = await drain.underWay(flip.epoch)
  const receipt: Receipt = {
    phase,
    epoch: flip.epoch,
    // While its flip is not complete, another order may still come.
    outcome:
      differences.length > 0
        ? 'differs'
        : isEmpty(left) && outcome !== 'waiting'
          ? 'verified'
          : 'open',
    ...(await drain.counts({ ...act, at: flip.at })),
    underWay: left,
    differences,
    tookMs: elapsed(),
    who: flip.who,
    why: flip.why,
  }
  if (receipt.outcome !== 'verified') return receipt
  failpoint('rollback.verified')
  if (await step(rollback, flip, 'verified', receipt))
    await noteEvent(ledger, {
      phase,
      kind: 'receipt',
      who: flip.who,
      says: receiptInWords(receipt),
      detail: { ...receipt },
    })
  return receipt
}

/** One sentence, for the timeline and the command line. */
export function receiptInWords(receipt: Receipt): string {
  const { finishedDirect, handedOver, settledByEvidence, stayDirect, underWay, differences } =
    receipt
  const { unsettled = [] } = receipt
  const parts = [
    `${finishedDirect} finished on the direct path`,
    `${handedOver} handed over to the legacy path`,
    `${settledByEvidence} in doubt settled by evidence`,
  ]
  if (stayDirect > 0) parts.push(`${stayDirect} stay direct until they are closed`)
  if (!isEmpty(underWay)) parts.push(inWords(underWay))
  if (unsettled.length > 0) parts.push(`${unsettled.length} wait or are parked`)
  parts.push(differences.length === 0 ? '0 lost, 0 doubled' : differences.join('; '))
  return parts.join(', ')
}

function isEmpty({ waiting, inHand, inDoubt }: UnderWay): boolean {
  return waiting === 0 && inHand === 0 && inDoubt.length === 0
}

function inWords({ waiting, inHand, inDoubt }: UnderWay): string {
  return `${waiting} wait, ${inHand} in hand, ${inDoubt.length} in doubt`
}

async function readFlip(ledger: Pool, phase: PhaseId, epoch: number): Promise<Flip | undefined> {
  const { rows } = await ledger.query<Flip>(
    `SELECT epoch, at, extract(epoch FROM clock_timestamp() - at)::float8 * 1000 AS "elapsedMs", who, why
     FROM phase_journal WHERE phase = $1 AND epoch = $2 AND step = 'in force'`,
    [phase, epoch],
  )
  return rows[0]
}

async function readReceipt(
  ledger: Pool,
  phase: PhaseId,
  epoch: number,
): Promise<Receipt | undefined> {
  const { rows } = await ledger.query<{ detail: Receipt }>(
    `SELECT detail FROM phase_journal WHERE phase = $1 AND epoch = $2 AND step = 'verified'`,
    [phase, epoch],
  )
  return rows[0]?.detail
}

/** False when somebody has journaled it before. */
async function step(
  { ledger, phase }: Rollback,
  flip: Flip,
  name: RollbackStep,
  detail: object,
): Promise<boolean> {
  const { rowCount } = await ledger.query(
    `INSERT INTO phase_journal (phase, epoch, step, verb, share, who, why, detail)
     VALUES ($1, $2, $3, 'rollback', 0, $4, $5, $6) ON CONFLICT ON CONSTRAINT one_step_per_epoch DO NOTHING`,
    [phase, flip.epoch, name, flip.who, flip.why, JSON.stringify(detail)],
  )
  return rowCount === 1
}
