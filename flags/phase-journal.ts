import { StranglerError } from '../contracts/errors.ts'
import { formatShare, wholeShare } from '../contracts/path-share.ts'
import { failpoint } from '../runtime/failpoint.ts'
import type { Client, Pool } from '../runtime/postgres.ts'
import { inTransaction } from '../runtime/postgres.ts'
import { waitForFlip } from './flip-complete.ts'
import type { FlipWait } from './flip-complete.ts'
import { readPhase, readRoute } from './phase-state.ts'
import type { PhaseState, Route, Verb } from './phase-state.ts'
import { migrationSeed } from './phases.ts'
import type { PhaseId } from './phases.ts'

/*
 * A flip from epoch N to N+1, over two databases:
 *
 *   ledger: journal 'intended' + phase row N+1     one transaction; the unique (phase, epoch, step) is the compare-and-swap
 *   seam:   route row N -> N+1                     the commit that changes what happens to new orders
 *   ledger: journal 'in force'
 *   seam:   wait until no order of epoch N can appear any more
 *   ledger: journal 'complete'
 *
 * Every step may be repeated, by anybody: a runner cannot know whether the one before it died or is only slow, so it
 * never waits for it but takes the same steps for the same epoch. A flip that was intended is therefore always carried
 * out, which is what a half done rollback needs; it is abandoned in one case only: the route has an epoch or share that
 * this journal did not write (a restored database, a change by hand). Then the route is what is in force, and the phase
 * row follows it.
 */

export interface Databases {
  readonly ledger: Pool
  /** The database where the phase is decided: it holds the route row. For a phase of the bridge it is the ledger itself. */
  readonly seam: Pool
}

interface Act extends Databases {
  readonly phase: PhaseId
  readonly who: string
  readonly why: string
  /** How long to wait for the last transaction of the old epoch; the flip is in force all the same. */
  readonly completeWithinMs?: number
}

export interface Moved extends FlipWait {
  /** False when what was asked for was in force already. */
  readonly changed: boolean
  readonly epoch: number
  readonly share: number
  readonly shareBefore: number
  /** False: the ledger was away, so that only the route says it yet; the next verb writes the journal. */
  readonly journaled: boolean
}

/**
 * Raises the share of a phase.
 * @throws StranglerError `epoch_conflict` when somebody else moved it meanwhile, `refused` for a share below the one in force
 */
export async function advancePhase(act: Act & { readonly share: number }): Promise<Moved> {
  if (!Number.isInteger(act.share) || act.share < 0 || act.share > wholeShare) {
    throw new StranglerError('invalid_argument', `a share of ${act.share} ten-thousandths`)
  }
  return move(act, 'advance', act.share)
}

/** Back to 0: new orders are legacy again. Possible at any time, where the seam is elsewhere also without the ledger; a no-op where nothing moved. */
export async function rollbackPhase(act: Act): Promise<Moved> {
  try {
    return await move(act, 'rollback', 0)
  } catch (error) {
    if (error instanceof StranglerError) throw error
    // Whatever ails the ledger; where it was the seam, this fails as well, and the first reason is the one to tell.
    const moved = await closeRoute(act).catch(() => undefined)
    if (moved === undefined) throw error
    return moved
  }
}

/** The route alone, by compare-and-swap; settlePhase makes the journal follow it. */
async function closeRoute(act: Act): Promise<Moved> {
  for (;;) {
    const found = await readRoute(act.seam, act.phase)
    const { epoch, share: shareBefore } = found ?? { epoch: 0, share: 0 }
    const changed = shareBefore !== 0
    if (changed) {
      const { rowCount } = await act.seam.query(
        `UPDATE strangler.route SET epoch = epoch + 1, share = 0, changed_at = clock_timestamp()
         WHERE phase = $1 AND epoch = $2 AND share = $3`,
        [act.phase, epoch, shareBefore],
      )
      if (rowCount !== 1) continue
    }
    const wait = await waitForFlip(act.seam, act.completeWithinMs ?? 30_000)
    const now = changed ? epoch + 1 : epoch
    return { changed, epoch: now, share: 0, shareBefore, journaled: false, ...wait }
  }
}

export interface Settled {
  /** nothing: the last flip was complete. finished: it is now. waiting: in force, an old transaction is still open. */
  readonly outcome: 'nothing' | 'finished' | 'abandoned' | 'waiting'
  readonly state: PhaseState
  readonly wait: FlipWait
}

/** Ends what a crash left half done. Every verb begins with it; safe beside a runner that is alive. */
export async function settlePhase(
  databases: Databases & { readonly phase: PhaseId; readonly completeWithinMs?: number },
): Promise<Settled> {
  const { ledger, phase } = databases
  let outcome: Settled['outcome'] = 'nothing'
  for (;;) {
    const state = await readPhase(ledger, phase)
    if (state.step === 'intended') await route(databases, phase, state)
    if (differs(state, await readRoute(databases.seam, phase))) {
      if (await abandon(databases, phase, state)) outcome = 'abandoned'
      continue
    }
    if (state.step === 'complete' || state.step === 'abandoned') {
      return { outcome, state, wait: noWait }
    }
    await note(ledger, phase, state, 'in force')
    const wait = await waitForFlip(databases.seam, databases.completeWithinMs ?? 30_000)
    if (!wait.complete) return { outcome: 'waiting', state, wait }
    await note(ledger, phase, state, 'complete')
    const ended = await readPhase(ledger, phase)
    return { outcome: outcome === 'nothing' ? 'finished' : outcome, state: ended, wait }
  }
}

export interface PhaseStatus extends PhaseState {
  readonly phase: PhaseId
  /** `unreadable` = the database of the seam did not answer; `absent` = no row, every order goes the legacy path. */
  readonly route: Route | 'absent' | 'unreadable'
}

/** Reads only. */
export async function phaseStatus(databases: {
  readonly ledger: Pool
  readonly seam: Pool | undefined
  readonly phase: PhaseId
}): Promise<PhaseStatus> {
  const state = await readPhase(databases.ledger, databases.phase)
  const found =
    databases.seam === undefined
      ? 'unreadable'
      : await readRoute(databases.seam, databases.phase).then(
          (row) => row ?? ('absent' as const),
          () => 'unreadable' as const,
        )
  return { phase: databases.phase, ...state, route: found }
}

const noWait: FlipWait = { complete: true, waitedMs: 0 }

async function move(act: Act, verb: Verb, share: number): Promise<Moved> {
  // Not waited for here: a way back must not stand behind an old transaction of the seam.
  const { state: before } = await settlePhase({ ...act, completeWithinMs: 0 })
  if (before.share === share) {
    const { state, wait } = await settlePhase(act)
    const { epoch } = state
    return { changed: false, epoch, share, shareBefore: before.share, journaled: true, ...wait }
  }
  if (share < before.share && verb === 'advance') {
    throw new StranglerError(
      'refused',
      `${act.phase} stands at ${formatShare(before.share)}, ${formatShare(share)} is less; ` +
        `the way back is "strangler rollback ${act.phase}"`,
    )
  }
  const wanted = { epoch: before.epoch + 1, share, verb, who: act.who, why: act.why }
  await intend(act.ledger, act.phase, before, wanted)
  failpoint('phase.intended')

  await route(act, act.phase, wanted)
  // Somebody may have carried this very flip out for us, and moved on since.
  if (
    differs({ ...wanted, step: 'intended' }, await readRoute(act.seam, act.phase)) &&
    !(await wasInForce(act, wanted.epoch))
  ) {
    await settlePhase({ ...act, completeWithinMs: 0 })
    throw conflict(act.phase, wanted.epoch)
  }
  failpoint('phase.routed')
  await note(act.ledger, act.phase, wanted, 'in force')

  const wait = await waitForFlip(act.seam, act.completeWithinMs ?? 30_000)
  failpoint('phase.completed')
  if (wait.complete) await note(act.ledger, act.phase, wanted, 'complete')
  const { epoch } = wanted
  return { changed: true, epoch, share, shareBefore: before.share, journaled: true, ...wait }
}

interface Flip {
  readonly epoch: number
  readonly share: number
}

async function intend(
  ledger: Pool,
  phase: PhaseId,
  before: Flip,
  wanted: Flip & { verb: Verb; who: string; why: string },
): Promise<void> {
  await inTransaction(ledger, async (client) => {
    const journal = await insertStep(client, phase, wanted, 'intended', wanted)
    const row = await client.query(
      `INSERT INTO phase (phase, epoch, share, seed) VALUES ($1, $2, $3, $4)
       ON CONFLICT (phase) DO UPDATE SET epoch = excluded.epoch, share = excluded.share, changed_at = clock_timestamp()
       WHERE phase.epoch = $5`,
      [phase, wanted.epoch, wanted.share, migrationSeed, before.epoch],
    )
    if (!journal || row.rowCount !== 1) throw conflict(phase, wanted.epoch)
  })
}

/** Brings the route row up to the epoch. Whoever intended an epoch is alone with it, so a lower one is always older. */
async function route(databases: Databases, phase: PhaseId, wanted: Flip): Promise<void> {
  await databases.seam.query(
    `INSERT INTO strangler.route (phase, epoch, share, seed) VALUES ($1, $2, $3, $4)
     ON CONFLICT (phase) DO UPDATE SET epoch = excluded.epoch, share = excluded.share, changed_at = clock_timestamp()
     WHERE route.epoch < excluded.epoch`,
    [phase, wanted.epoch, wanted.share, migrationSeed],
  )
}

/** True when the route says what this journal did not write. No row is the same as a share of 0. */
function differs(state: Flip & Pick<PhaseState, 'step'>, found: Route | undefined): boolean {
  const { epoch, share } = found ?? { epoch: 0, share: 0 }
  if (epoch < state.epoch && state.step === 'intended') return false
  return epoch > state.epoch || share !== state.share
}

/** The route is what happens to orders, so the phase row takes it over. False when there is no need any more. */
async function abandon(databases: Databases, phase: PhaseId, state: PhaseState): Promise<boolean> {
  return inTransaction(databases.ledger, async (client) => {
    const locked = await client.query(
      'SELECT FROM phase WHERE phase = $1 AND epoch = $2 FOR UPDATE',
      [phase, state.epoch],
    )
    if (locked.rowCount !== 1 && state.epoch > 0) return false
    // Read again under the lock: nobody can intend the next epoch, and so route it, in between.
    const found = await readRoute(databases.seam, phase)
    if (!differs(state, found)) return false
    const now = found ?? { epoch: 0, share: 0 }
    const why = `the route stands at epoch ${now.epoch}, ${formatShare(now.share)}, which this journal did not write`
    const act = { verb: 'found', who: 'strangler', why }
    if (state.epoch > 0) await insertStep(client, phase, state, 'abandoned', act)
    const epoch = Math.max(now.epoch, state.epoch)
    const taken = await client.query(
      `INSERT INTO phase (phase, epoch, share, seed) VALUES ($1, $2, $3, $4)
       ON CONFLICT (phase) DO UPDATE SET epoch = excluded.epoch, share = excluded.share, changed_at = clock_timestamp()
       WHERE phase.epoch = $5`,
      [phase, epoch, now.share, migrationSeed, state.epoch],
    )
    if (taken.rowCount !== 1) throw conflict(phase, epoch)
    if (epoch > state.epoch) {
      await insertStep(client, phase, { epoch, share: now.share }, 'in force', act)
    }
    return true
  })
}

async function note(
  ledger: Pool,
  phase: PhaseId,
  flip: Flip,
  step: 'in force' | 'complete',
): Promise<void> {
  await inTransaction(ledger, (client) => insertStep(client, phase, flip, step))
}

/** Who and why are those of the intention, whoever carries it out. False when the step was there already. */
async function insertStep(
  client: Client,
  phase: PhaseId,
  flip: Flip,
  step: PhaseState['step'],
  act?: { verb: string; who: string; why: string },
): Promise<boolean> {
  const { rowCount } = await client.query(
    `INSERT INTO phase_journal (phase, epoch, step, verb, share, who, why)
     SELECT $1::text, $2::int, $3::text, coalesce($5::text, i.verb, 'found'), $4::int,
       coalesce($6::text, i.who, 'strangler'), coalesce($7::text, i.why, 'found in the phase row')
     FROM (SELECT 1) one
     LEFT JOIN phase_journal i ON i.phase = $1::text AND i.epoch = $2::int AND i.step = 'intended'
     ON CONFLICT ON CONSTRAINT one_step_per_epoch DO NOTHING`,
    [phase, flip.epoch, step, flip.share, act?.verb, act?.who, act?.why],
  )
  return rowCount === 1
}

async function wasInForce(act: Act, epoch: number): Promise<boolean> {
  const { rowCount } = await act.ledger.query(
    `SELECT FROM phase_journal WHERE phase = $1 AND epoch = $2 AND step = 'in force'`,
    [act.phase, epoch],
  )
  return rowCount === 1
}

function conflict(phase: PhaseId, epoch: number): StranglerError {
  return new StranglerError(
    'epoch_conflict',
    `${phase}, epoch ${epoch}; look at "strangler status" and say it again if it is still wanted`,
  )
}
