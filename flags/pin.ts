import { inTransaction } from '../runtime/postgres.ts'
import type { Pool } from '../runtime/postgres.ts'
import { readPhase } from './phase-state.ts'
import type { Pin, PinKind } from './phase-state.ts'
import { migrationSeed } from './phases.ts'
import type { PhaseId } from './phases.ts'
import { noteEvent } from './timeline.ts'

interface By {
  readonly who: string
  readonly why: string
}

/** Pins a phase that does not move by it. The later kind counts: a kill of a phase that was held is a kill. */
export async function setPin(
  ledger: Pool,
  phase: PhaseId,
  pin: By & { readonly kind: PinKind },
  /** Where it must still stand; false, and no pin, when it has moved meanwhile. */
  at?: { readonly epoch: number; readonly share: number },
): Promise<boolean> {
  const { kind, who, why } = pin
  return inTransaction(ledger, async (client) => {
    const found = await client.query<{ epoch: number; share: number }>(
      'SELECT epoch, share FROM phase WHERE phase = $1 FOR UPDATE',
      [phase],
    )
    const { epoch, share } = found.rows[0] ?? { epoch: 0, share: 0 }
    if (at !== undefined && (epoch !== at.epoch || share !== at.share)) return false
    const { rowCount } = await client.query(
      `INSERT INTO phase (phase, epoch, share, seed, pin, pinned_by, pinned_why, pinned_at)
       VALUES ($1, 0, 0, $2, $3, $4, $5, clock_timestamp())
       ON CONFLICT (phase) DO UPDATE SET pin = excluded.pin, pinned_by = excluded.pinned_by, pinned_why = excluded.pinned_why,
         pinned_at = excluded.pinned_at
       WHERE phase.pin IS DISTINCT FROM excluded.pin`,
      [phase, migrationSeed, kind, who, why],
    )
    if (rowCount === 1) await noteEvent(client, { phase, kind, who, says: why })
    return true
  })
}

/** Stays where it is, whatever is wished, until it is resumed. A phase that is pinned already stays so; that pin is returned. */
export async function holdPhase(ledger: Pool, phase: PhaseId, by: By): Promise<Pin | undefined> {
  const { pin } = await readPhase(ledger, phase)
  if (pin === undefined) await setPin(ledger, phase, { ...by, kind: 'hold' })
  return pin
}

/** Lets it follow the wish again. Returns the pin that it had; undefined: none, and nothing changed. */
export async function resumePhase(ledger: Pool, phase: PhaseId, by: By): Promise<Pin | undefined> {
  return inTransaction(ledger, async (client) => {
    const { rows } = await client.query<Pin>(
      `UPDATE phase p SET pin = NULL, pinned_by = NULL, pinned_why = NULL, pinned_at = NULL
       FROM (SELECT * FROM phase WHERE phase = $1 AND pin IS NOT NULL FOR UPDATE) before
       WHERE p.phase = before.phase
       RETURNING before.pin AS kind, before.pinned_by AS who, before.pinned_why AS why, before.pinned_at AS at`,
      [phase],
    )
    const pin = rows[0]
    if (pin !== undefined)
      await noteEvent(client, {
        phase,
        kind: 'resume',
        who: by.who,
        says: `"${pin.kind}" of ${pin.who} is lifted: ${by.why}`,
      })
    return pin
  })
}
