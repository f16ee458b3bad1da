import { StranglerError } from '../contracts/errors.ts'
import { formatShare, wholeShare } from '../contracts/path-share.ts'
import { failpoint } from '../runtime/failpoint.ts'
import type { Client, Pool } from '../runtime/postgres.ts'
import { inTransaction } from '../runtime/postgres.ts'
import { waitForFlip } from './flip-complete.ts'
import type { FlipWait } from './flip-complete.ts'
import { readPhase, readRoute } from './phase-state.ts'
import type { PhaseState, PinKind, Route, Verb } from './phase-state.ts'
import { migrationSeed } from './phases.ts'
import type { PhaseId } from './phases.ts'
import { setPin } from './pin.ts'
import { waitForReplicas } from './replicas.ts'
import { noteEvent } from './timeline.ts'

/*
 * A flip from epoch N to N+1, over two databases:
 *
 *   ledger: journal 'intended' + phase row N+1     one transaction; the unique (phase, epoch, step) is the compare-and-swap
 *   seam:   route row N -> N+1                     the commit that changes what happens to new orders
 *   ledger: journal 'in force'
 *   seam:   wait until no order of epoch N can appear any more, and every living replica has acknowledged N+1
 *   ledger: journal 'complete'
 *
 * Every step may be repeated, by anybody: a runner cannot know whether the one before it died or is only slow, so it
 * never waits for it but takes the same steps for the same epoch. A flip that was intended is therefore always carried
 * out, which is what a half done rollback needs; it is abandoned in one case only: the route has an epoch or share that
 * this journal did not write (a restored database, a change by hand). Then the route is what is in force, and the phase
 * row follows it, pinned, until a person has looked.
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
  /** Only if this epoch is in force: what was judged in it says nothing about a later one. */
  readonly atEpoch?: number
}

export interface Moved extends FlipWait {
  /** False when what was asked for was in force already. */
  readonly changed: boolean
  readonly epoch: number
  readonly share: number
  readonly shareBefore: number
  /** So many orders more than the share are admitted, and then the phase holds. */
  readonly tokens: number | undefined
  /** Whose orders alone those are; undefined: anybody's. */
  readonly partner: string | undefined
  /** False: the ledger was away, so that only the route says it yet; the next verb writes the journal. */
  readonly journaled: boolean
}

/**
 * Raises the share of a phase. What asks the gates is reconcilePhase; this is the flip itself.
 * @throws StranglerError `epoch_conflict` when somebody else moved it meanwhile, `refused` for a share below the one in force,
 *   or while the phase is pinned
 */
export async function advancePhase(act: Act & { readonly share: number }): Promise<Moved> {
  return move(act, { verb: 'advance', share: wholeTenThousandths(act.share) })
}

/** Lowers the share, or leaves it: needs no gate, and pins nothing. */
export async function lowerPhase(act: Act & { readonly share: number }): Promise<Moved> {
  return move(act, { verb: 'lower', share: wholeTenThousandths(act.share) })
}

/**
 * Admits exactly so many orders more than the share does, of one partner or of anybody, and holds.
 * @throws StranglerError as advancePhase does
 */
export async function admitOrders(
  act: Act & { readonly tokens: number; readonly partner?: string | undefined },
): Promise<Moved> {
  const { tokens, partner } = act
  if (!Number.isInteger(tokens) || tokens < 1)
    throw new StranglerError('invalid_argument', `${tokens} orders to admit`)
  if (partner !== undefined && act.phase !== 'partner-intake')
    throw new StranglerError('invalid_argument', `${act.phase} does not decide by partners`)
  return move(act, { verb: 'admit', tokens, partner, pin: 'hold' })
}

/**
 * Back to 0 and pinned there: new orders are legacy again. Possible at any time, where the seam is elsewhere also without the
 * ledger; where nothing moved it only pins. flags/rollback.ts goes on from there.
 */
export function rollbackPhase(act: Act): Promise<Moved> {
  return back(act, 'rollback')
}

/** The first act of a rollback alone. */
export function killPhase(act: Act): Promise<Moved> {
  return back(act, 'kill')
}

async function back(act: Act, verb: 'rollback' | 'kill'): Promise<Moved> {
  try {
    return await move(act, { verb, share: 0, pin: verb })
  } catch (error) {
    if (error instanceof StranglerError) throw error
    // Whatever ails the ledger; where it was the seam, this fails as well, and the first reason is the one to tell.
    const moved = await closeRoute(act).catch(() => undefined)
    if (moved === undefined) throw error
    return moved
  }
}

function wholeTenThousandths(share: number): number {
  if (Number.isInteger(share) && share >= 0 && share <= wholeShare) return share
  throw new StranglerError('invalid_argument', `a share of ${share} ten-thousandths`)
}

/** The route alone, by compare-and-swap; settlePhase makes the journal follow it. */
async function closeRoute(act: Act): Promise<Moved> {
  for (;;) {
    const found = await readRoute(act.seam, act.phase)
    const { epoch, share: shareBefore, tokens } = found ?? { epoch: 0, share: 0, tokens: 0 }
    const changed = shareBefore !== 0 || tokens > 0
    // An epoch of its own also where nothing is open: a flip that the ledger still intends would open it afterwards.
    const { rowCount } = await act.seam.query(
      `INSERT INTO strangler.route AS r (phase, epoch, share, seed) VALUES ($1, 1, 0, $4)
       ON CONFLICT (phase) DO UPDATE SET epoch = r.epoch + 1, share = 0, counted = false, changed_at = clock_timestamp()
       WHERE r.epoch = $2 AND r.share = $3`,
      [act.phase, epoch, shareBefore, migrationSeed],
    )
    if (rowCount !== 1) continue
    const wait = await waitForFlip(act.seam, act.completeWithinMs ?? 30_000)
    return {
      changed,
      epoch: epoch + 1,
      share: 0,
      shareBefore,
      tokens: undefined,
      partner: undefined,
      journaled: false,
      ...wait,
    }
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
    const wait = await waitUntilComplete(databases, state.epoch)
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

interface Wanted {
  readonly verb: Verb
  /** Undefined: as it is. */
  readonly share?: number
  readonly tokens?: number
  readonly partner?: string | undefined
  readonly pin?: PinKind
}

async function move(act: Act, wanted: Wanted): Promise<Moved> {
  const { verb, tokens, partner, pin } = wanted
  // Not waited for here: a way back must not stand behind an old transaction of the seam.
  const { state: before } = await settlePhase({ ...act, completeWithinMs: 0 })
  if (act.atEpoch !== undefined && act.atEpoch !== before.epoch)
    throw conflict(act.phase, act.atEpoch)
  const share = wanted.share ?? before.share
  const shareBefore = before.share
  refuseWhatIsNotAllowed(act.phase, before, verb, share)
  const left = await tokensLeft(act)
  // What a rollback does after its flip belongs to that flip: where somebody only killed or lowered, it makes one of its own.
  const carriedOut = verb !== 'rollback' || before.epoch === 0 || before.last?.verb === 'rollback'
  if (
    share === shareBefore &&
    tokens === undefined &&
    carriedOut &&
    (verb === 'advance' || left === 0)
  ) {
    if (pin !== undefined && !(await setPin(act.ledger, act.phase, { ...act, kind: pin }, before)))
      return move(act, wanted)
    const { state, wait } = await settlePhase(act)
    const { epoch } = state
    const now = state.share
    const same = { changed: false, epoch, share: now, shareBefore, tokens, partner } as const
    return { ...same, journaled: true, ...wait }
  }
  const { who, why } = act
  const flip = { epoch: before.epoch + 1, share, tokens, partner, verb, pin, who, why }
  await intend(act.ledger, act.phase, before, flip)
  failpoint('phase.intended')

  await route(act, act.phase, flip)
  // Somebody may have carried this very flip out for us, and moved on since.
  if (
    differs({ ...flip, step: 'intended' }, await readRoute(act.seam, act.phase)) &&
    !(await wasInForce(act, flip.epoch))
  ) {
    await settlePhase({ ...act, completeWithinMs: 0 })
    throw conflict(act.phase, flip.epoch)
  }
  failpoint('phase.routed')
  await note(act.ledger, act.phase, flip, 'in force')

  const wait = await waitUntilComplete(act, flip.epoch)
  failpoint('phase.completed')
  if (wait.complete) await note(act.ledger, act.phase, flip, 'complete')
  const { epoch } = flip
  return { changed: true, epoch, share, shareBefore, tokens, partner, journaled: true, ...wait }
}

function refuseWhatIsNotAllowed(
  phase: PhaseId,
  before: PhaseState,
  verb: Verb,
  share: number,
): void {
  if (verb === 'lower' && share > before.share) {
    throw new StranglerError(
      'refused',
      `${phase} stands at ${formatShare(before.share)}, ${formatShare(share)} is not lower`,
    )
  }
  if (verb === 'advance' && share < before.share) {
    throw new StranglerError(
      'refused',
      `${phase} stands at ${formatShare(before.share)}, ${formatShare(share)} is less; ` +
        `the way back is "strangler rollback ${phase}"`,
    )
  }
  if (
    before.pin !== undefined &&
    (verb === 'admit' || (verb === 'advance' && share > before.share))
  )
    throw new StranglerError('refused', pinned(phase, before.pin))
}

/** What stands in the way of a higher share, and what to do. */
export function pinned(phase: PhaseId, pin: NonNullable<PhaseState['pin']>): string {
  const since = pin.at.toISOString()
  return (
    `${phase} is pinned by "${pin.kind}" of ${pin.who} since ${since} ("${pin.why}"); ` +
    `when that is over: strangler resume ${phase}`
  )
}

async function tokensLeft(act: Act): Promise<number> {
  return (await readRoute(act.seam, act.phase))?.tokens ?? 0
}

/** Two things, because a replica that has not heard of the epoch may still work by the old one. */
async function waitUntilComplete(
  act: Databases & { readonly phase: PhaseId; readonly completeWithinMs?: number },
  epoch: number,
): Promise<FlipWait> {
  const deadlineMs = act.completeWithinMs ?? 30_000
  const flip = await waitForFlip(act.seam, deadlineMs)
  if (!flip.complete) return flip
  const replicas = await waitForReplicas(act.ledger, act.phase, epoch, deadlineMs - flip.waitedMs)
  return { ...replicas, waitedMs: flip.waitedMs + replicas.waitedMs }
}

interface Flip {
  readonly epoch: number
  readonly share: number
  readonly tokens?: number | undefined
  readonly partner?: string | undefined
}

async function intend(
  ledger: Pool,
  phase: PhaseId,
  before: Flip,
  flip: Flip & { verb: Verb; pin: PinKind | undefined; who: string; why: string },
): Promise<void> {
  await inTransaction(ledger, async (client) => {
    const journal = await insertStep(client, phase, flip, 'intended', flip)
    const row = await client.query(
      `INSERT INTO phase AS p (phase, epoch, share, seed, pin, pinned_by, pinned_why, pinned_at)
       VALUES ($1, $2, $3, $4, $6::text, $7::text, $8::text, CASE WHEN $6::text IS NOT NULL THEN clock_timestamp() END)
       ON CONFLICT (phase) DO UPDATE SET epoch = excluded.epoch, share = excluded.share, changed_at = clock_timestamp(),
         pin = coalesce(excluded.pin, p.pin), pinned_by = coalesce(excluded.pinned_by, p.pinned_by),
         pinned_why = coalesce(excluded.pinned_why, p.pinned_why), pinned_at = coalesce(excluded.pinned_at, p.pinned_at)
       -- A pin that came meanwhile stops what would raise it.
       WHERE p.epoch = $5 AND (p.pin IS NULL OR $9)`,
      [
        phase,
        flip.epoch,
        flip.share,
        migrationSeed,
        before.epoch,
        flip.pin,
        flip.pin && flip.who,
        flip.pin && flip.why,
        flip.verb !== 'advance' && flip.verb !== 'admit',
      ],
    )
    if (!journal || row.rowCount !== 1) throw conflict(phase, flip.epoch)
    const of = flip.partner === undefined ? '' : ` of ${flip.partner}`
    const admits = flip.tokens === undefined ? '' : `, and exactly ${flip.tokens} orders${of} more`
    await noteEvent(client, {
      phase,
      kind: flip.verb,
      who: flip.who,
      says: `${formatShare(before.share)} -> ${formatShare(flip.share)}${admits}: ${flip.why}`,
      detail: { epoch: flip.epoch, share: flip.share, shareBefore: before.share },
    })
  })
}

const admission = `
  INSERT INTO strangler.route_token (phase, epoch, n) SELECT $1, $2, n FROM generate_series(1, $3::int) n`
// Only the intake's tokens can be a partner's.
const admissionOfPartner = `
  INSERT INTO strangler.route_token (phase, epoch, n, partner) SELECT $1, $2, n, $4 FROM generate_series(1, $3::int) n`

/** Brings the route row up to the epoch. Whoever intended an epoch is alone with it, so a lower one is always older. */
async function route(databases: Databases, phase: PhaseId, wanted: Flip): Promise<void> {
  const counted = wanted.tokens !== undefined
  const values = [phase, wanted.epoch, wanted.share, migrationSeed, counted]
  await inTransaction(databases.seam, async (client) => {
    const { rowCount } = await client.query(
      `INSERT INTO strangler.route (phase, epoch, share, seed, counted) VALUES ($1, $2, $3, $4, $5)
       ON CONFLICT (phase) DO UPDATE SET epoch = excluded.epoch, share = excluded.share, counted = excluded.counted,
         changed_at = clock_timestamp()
       WHERE route.epoch < excluded.epoch`,
      values,
    )
    if (rowCount !== 1 || !counted) return
    const { epoch, tokens, partner } = wanted
    if (partner === undefined) await client.query(admission, [phase, epoch, tokens])
    else await client.query(admissionOfPartner, [phase, epoch, tokens, partner])
  })
  // Of older epochs, and of no use any more; but not one that a customer's open transaction holds.
  await databases.seam.query(
    `WITH old AS MATERIALIZED (
       SELECT epoch, n FROM strangler.route_token WHERE phase = $1 AND epoch < $2 FOR UPDATE SKIP LOCKED)
     DELETE FROM strangler.route_token t USING old
     WHERE t.phase = $1 AND t.epoch = old.epoch AND t.n = old.n`,
    [phase, wanted.epoch],
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
      `INSERT INTO phase AS p (phase, epoch, share, seed, pin, pinned_by, pinned_why, pinned_at)
       VALUES ($1, $2, $3, $4, 'hold', $6, $7, clock_timestamp())
       ON CONFLICT (phase) DO UPDATE SET epoch = excluded.epoch, share = excluded.share, changed_at = clock_timestamp(),
         pin = coalesce(p.pin, excluded.pin), pinned_by = coalesce(p.pinned_by, excluded.pinned_by),
         pinned_why = coalesce(p.pinned_why, excluded.pinned_why), pinned_at = coalesce(p.pinned_at, excluded.pinned_at)
       WHERE p.epoch = $5`,
      [phase, epoch, now.share, migrationSeed, state.epoch, act.who, why],
    )
    if (taken.rowCount !== 1) throw conflict(phase, epoch)
    if (epoch > state.epoch) {
      await insertStep(client, phase, { epoch, share: now.share }, 'in force', act)
    }
    await noteEvent(client, { phase, kind: 'hold', who: act.who, says: why })
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
    `INSERT INTO phase_journal (phase, epoch, step, verb, share, who, why, detail)
     SELECT $1::text, $2::int, $3::text, coalesce($5::text, i.verb, 'found'), $4::int,
       coalesce($6::text, i.who, 'strangler'), coalesce($7::text, i.why, 'found in the phase row'), coalesce(i.detail, $8::jsonb)
     FROM (SELECT 1) one
     LEFT JOIN phase_journal i ON i.phase = $1::text AND i.epoch = $2::int AND i.step = 'intended'
     ON CONFLICT ON CONSTRAINT one_step_per_epoch DO NOTHING`,
    [
      phase,
      flip.epoch,
      step,
      flip.share,
      act?.verb,
      act?.who,
      act?.why,
      JSON.stringify(
        flip.tokens === undefined ? {} : { tokens: flip.tokens, partner: flip.partner },
      ),
    ],
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
