import type { Pool } from '../runtime/postgres.ts'
import type { PhaseId } from './phases.ts'

/** Only PASS lets a phase rise. INCONCLUSIVE: missing, stale or too few; it is never taken for either of the others. */
export type Verdict = 'PASS' | 'FAIL' | 'INCONCLUSIVE'

/**
 * The gates of every phase, in the order in which people read them. A guard stays armed after the step: when it fails while a
 * share is direct, and not for the legacy path alone, the phase goes back by itself. The others only let nothing rise: going back would not mend what they see.
 */
export const gates = [
  { id: 'conservation', guard: true, asks: 'is every accepted order in the MES or on its way' },
  { id: 'duplicates', guard: true, asks: 'is every order in the MES once' },
  { id: 'parity', guard: true, asks: 'would we do what the legacy does' },
  { id: 'in-doubt', guard: false, asks: 'is it known of every order whether it was sent' },
  { id: 'dead-letters', guard: false, asks: 'is nothing parked or refused for good' },
  { id: 'pages', guard: false, asks: 'are the pages the same through the proxy' },
  { id: 'overhead', guard: false, asks: 'is the time that the proxy adds within its budget' },
  { id: 'lag', guard: false, asks: 'does what is on its way move' },
  { id: 'running', guard: false, asks: 'is every part of the new way there' },
  { id: 'replicas', guard: false, asks: 'has every process acknowledged the epoch' },
  { id: 'drain', guard: false, asks: 'is the last flip complete' },
  { id: 'approval', guard: false, asks: 'have enough people approved the step' },
] as const satisfies readonly { id: string; guard: boolean; asks: string }[]

export type GateId = (typeof gates)[number]['id']

export interface GateResult {
  readonly gate: GateId
  readonly verdict: Verdict
  /** With its unit, such as `0 of 4812 orders differ`; `nothing` where there is no value. */
  readonly measured: string
  readonly needed: string
  /** One sentence for a person; of a FAIL the value that failed, and the orders. */
  readonly says: string
  readonly orderIds: readonly string[]
  /** Where the value comes from, so that somebody can look: a table, a URL, a command. */
  readonly source: string
  /** What would make it PASS, where that is not a matter of waiting. */
  readonly unblock: string | undefined
  /** Of a guard that fails: it is about the legacy path alone, and going back would send more orders there. */
  readonly legacyOnly?: boolean
}

export interface JudgedGate extends GateResult {
  /** Since when the verdict is what it is. */
  readonly since: Date | undefined
  /** Since it was judged, by the ledger's clock; undefined: never. */
  readonly ageMs: number | undefined
}

/** FAIL outranks INCONCLUSIVE, which outranks PASS; no gate at all is INCONCLUSIVE. */
export function overall(results: readonly Pick<GateResult, 'verdict'>[]): Verdict {
  if (results.some(({ verdict }) => verdict === 'FAIL')) return 'FAIL'
  return results.length === 0 || results.some(({ verdict }) => verdict === 'INCONCLUSIVE')
    ? 'INCONCLUSIVE'
    : 'PASS'
}

export function isGuard(id: GateId): boolean {
  return gates.some((gate) => gate.id === id && gate.guard)
}

const named = 20

/** Stores what was judged just now; a verdict that changed goes into the timeline. */
export async function recordGates(
  ledger: Pool,
  phase: PhaseId,
  results: readonly GateResult[],
): Promise<void> {
  await ledger.query(
    `WITH new AS (
       SELECT * FROM jsonb_to_recordset($2::jsonb)
         AS g(gate text, verdict text, measured text, needed text, says text, order_ids jsonb, source text, unblock text)),
     before AS (SELECT gate, verdict FROM gate_result WHERE phase = $1),
     stored AS (
       INSERT INTO gate_result AS r (phase, gate, verdict, measured, needed, says, order_ids, source, unblock)
       SELECT $1, gate, verdict, measured, needed, says, ARRAY(SELECT jsonb_array_elements_text(order_ids)), source, unblock FROM new
       ON CONFLICT (phase, gate) DO UPDATE SET verdict = excluded.verdict, measured = excluded.measured, needed = excluded.needed,
         says = excluded.says, order_ids = excluded.order_ids, source = excluded.source, unblock = excluded.unblock, at = excluded.at,
         since = CASE WHEN r.verdict = excluded.verdict THEN r.since ELSE excluded.since END)
     INSERT INTO phase_event (phase, kind, who, says, detail)
     SELECT $1, 'gate', 'strangler', format('%s %s: %s', n.verdict, n.gate, n.says),
       jsonb_build_object('gate', n.gate, 'verdict', n.verdict, 'before', b.verdict)
     FROM new n LEFT JOIN before b USING (gate) WHERE b.verdict IS DISTINCT FROM n.verdict`,
    [
      phase,
      JSON.stringify(
        results.map(({ orderIds, unblock, ...rest }) => ({
          ...rest,
          order_ids: orderIds.slice(0, named),
          unblock: unblock ?? null,
        })),
      ),
    ],
  )
}

/** A verdict that nobody has renewed for so long is no evidence. */
export const gateMaxAgeMs = 30_000

/** Every gate in its order. One that was not judged within `maxAgeMs` is INCONCLUSIVE, whatever it said. */
export async function readGates(
  ledger: Pool,
  phase: PhaseId,
  maxAgeMs = gateMaxAgeMs,
): Promise<JudgedGate[]> {
  const { rows } = await ledger.query<Omit<JudgedGate, 'unblock'> & { unblock: string | null }>(
    `SELECT gate, verdict, measured, needed, says, order_ids AS "orderIds", source, unblock, since,
       extract(epoch FROM clock_timestamp() - at)::float8 * 1000 AS "ageMs"
     FROM gate_result WHERE phase = $1`,
    [phase],
  )
  const known = new Map(
    rows.map((row) => [row.gate, { ...row, unblock: row.unblock ?? undefined }]),
  )
  return gates.map(({ id }) => {
    const found = known.get(id)
    if (found === undefined) return neverJudged(id)
    if (found.ageMs === undefined || found.ageMs <= maxAgeMs) return found
    return {
      ...found,
      verdict: 'INCONCLUSIVE',
      says: `the last value (${found.verdict}: ${found.measured}) is ${(found.ageMs / 1000).toFixed(0)} s old`,
      unblock: 'start the reconciler, or look at its log',
    }
  })
}

function neverJudged(gate: GateId): JudgedGate {
  return {
    gate,
    verdict: 'INCONCLUSIVE',
    measured: 'nothing',
    needed: 'a value',
    says: 'never judged',
    orderIds: [],
    source: 'gate_result',
    unblock: 'start the reconciler, or look at its log',
    since: undefined,
    ageMs: undefined,
  }
}
