import { createHash } from 'node:crypto'

import { StranglerError } from '../contracts/errors.ts'
import { formatShare } from '../contracts/path-share.ts'
import { inTransaction } from '../runtime/postgres.ts'
import type { Pool } from '../runtime/postgres.ts'
import { readGates } from './gates.ts'
import type { JudgedGate } from './gates.ts'
import { readPhase } from './phase-state.ts'
import type { PhaseId } from './phases.ts'
import { noteEvent } from './timeline.ts'

export interface Approval {
  readonly who: string
  readonly why: string
  readonly share: number
  readonly at: Date
  readonly expiresAt: Date
}

/** What was seen when it was approved: hex sha256 over the verdict and value of every gate, but for the approvals themselves. */
export function evidenceHash(gates: readonly JudgedGate[]): string {
  const seen = gates
    .filter(({ gate }) => gate !== 'approval')
    .map(({ gate, verdict, measured }) => [gate, verdict, measured])
  return createHash('sha256').update(JSON.stringify(seen)).digest('hex')
}

/**
 * One person's word for one step of one epoch. It ends by time, by the flip, or with the evidence.
 * @throws StranglerError `refused` while a gate fails
 */
export async function approveStep(
  ledger: Pool,
  approval: {
    readonly phase: PhaseId
    readonly share: number
    readonly who: string
    readonly why: string
    readonly forMs: number
  },
): Promise<{ epoch: number; evidence: string; expiresAt: Date }> {
  const { phase, share, why } = approval
  // One person is one, however they write themselves.
  const who = approval.who.trim().toLowerCase()
  const seen = await readGates(ledger, phase)
  const failed = seen.filter(({ verdict }) => verdict === 'FAIL')
  if (failed.length > 0)
    throw new StranglerError(
      'refused',
      failed.map(({ gate, says }) => `FAIL ${gate}: ${says}`).join('; '),
    )
  const { epoch } = await readPhase(ledger, phase)
  const evidence = evidenceHash(seen)
  return inTransaction(ledger, async (client) => {
    const { rows } = await client.query<{ expires_at: Date }>(
      `INSERT INTO approval (phase, share, epoch, who, why, evidence_sha256, expires_at)
       VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp() + $7::float8 * interval '1 millisecond')
       ON CONFLICT ON CONSTRAINT one_approval_each DO UPDATE SET why = excluded.why, evidence_sha256 = excluded.evidence_sha256,
         at = clock_timestamp(), expires_at = excluded.expires_at, void_reason = NULL
       RETURNING expires_at`,
      [phase, share, epoch, who, why, evidence, approval.forMs],
    )
    await noteEvent(client, {
      phase,
      kind: 'approval',
      who,
      says: `${formatShare(share)} is approved: ${why}`,
      detail: { share, epoch, evidence },
    })
    return { epoch, evidence, expiresAt: rows[0]!.expires_at }
  })
}

/** Those that count now, for at least this share. */
export async function readApprovals(
  ledger: Pool,
  step: { readonly phase: PhaseId; readonly epoch: number; readonly share: number },
): Promise<Approval[]> {
  const { rows } = await ledger.query<Approval>(
    `SELECT DISTINCT ON (who) who, why, share, at, expires_at AS "expiresAt" FROM approval
     WHERE phase = $1 AND epoch = $2 AND share >= $3 AND void_reason IS NULL AND expires_at > clock_timestamp()
     ORDER BY who, id DESC`,
    [step.phase, step.epoch, step.share],
  )
  return rows
}

/** A breach: nobody approved what is seen now. Returns how many it voided. */
export async function voidApprovals(ledger: Pool, phase: PhaseId, reason: string): Promise<number> {
  const { rowCount } = await ledger.query(
    `UPDATE approval SET void_reason = $2 WHERE phase = $1 AND void_reason IS NULL AND expires_at > clock_timestamp()`,
    [phase, reason],
  )
  return rowCount ?? 0
}
