import { wholeShare } from '../../contracts/path-share.ts'
import type { Route } from '../../flags/phase-state.ts'
import { readPhase, readRoute } from '../../flags/phase-state.ts'
import type { PhaseState } from '../../flags/phase-state.ts'
import { findPhase } from '../../flags/phases.ts'
import type { PhaseId } from '../../flags/phases.ts'
import { seamOf } from '../../flags/seams.ts'
import type { Seams } from '../../flags/seams.ts'
import type { Pool } from '../../runtime/postgres.ts'
import { lastTakenByCrm, legacyOrdersPage, shopStatuses } from '../wire/legacy-orders.ts'
import { openInMes } from '../wire/settled-orders.ts'
import { evidenceHash } from './evidence-hash.ts'
import type { HashedEvidence } from './evidence-hash.ts'

export interface LastSeen {
  /** What would show that somebody still uses the legacy way. */
  readonly what: string
  /** Of the latest, in milliseconds; undefined: there never was one. */
  readonly ageMs: number | undefined
  readonly orderId: string | undefined
}

export interface RetireEvidence {
  readonly state: Pick<PhaseState, 'epoch' | 'share' | 'step'>
  readonly route: Route | undefined
  /** Since the whole share came into force; undefined: it is not. */
  readonly wholeForMs: number | undefined
  readonly lastSeen: readonly LastSeen[]
  readonly legacyOrders: number
  /** Decided legacy, and not closed everywhere; the first of them in the order of their decisions. */
  readonly stragglers: readonly { readonly orderId: string; readonly says: string }[]
  readonly stragglerCount: number
  readonly hashes: readonly HashedEvidence[]
}

interface Databases extends Seams {
  readonly mes: Pool
}

const pageSize = 5000
const named = 20

/** All that speaks for and against the end of a phase's legacy way; reads only. */
export async function readRetireEvidence(
  databases: Databases,
  phase: PhaseId,
): Promise<RetireEvidence> {
  const { ledger } = databases
  const state = await readPhase(ledger, phase)
  const route = await readRoute(seamOf(findPhase(phase), databases), phase)
  const journal = await ledger.query<{ epoch: number; step: string; share: number; at: Date }>(
    'SELECT id::text, epoch, step, verb, share, who, why, at FROM phase_journal WHERE phase = $1 ORDER BY phase_journal.id',
    [phase],
  )
  const handovers = await ledger.query(
    `SELECT id::text, order_id, from_path, to_path, epoch, who, why, at FROM handover WHERE phase = $1 ORDER BY handover.id`,
    [phase],
  )
  const { rows: now } = await ledger.query<{ now: Date }>('SELECT clock_timestamp() AS now')
  const whole = journal.rows.find(
    ({ epoch, step, share }) =>
      epoch === state.epoch && step === 'in force' && share === wholeShare,
  )
  const orders = await readLegacyOrders(databases, phase)
  const seen = await readLastSeen(databases, phase)
  const lastSeen = [
    ...seen.map(({ what, ageMs, orderId }) => ({ what, ageMs, orderId })),
    handedBack(handovers.rows, now[0]!.now),
  ]
  return {
    state,
    route,
    wholeForMs: whole === undefined ? undefined : now[0]!.now.getTime() - whole.at.getTime(),
    lastSeen,
    legacyOrders: orders.hash.rows,
    stragglers: orders.stragglers,
    stragglerCount: orders.count,
    hashes: [
      hashed('phase_journal', journal.rows),
      hashed('strangler.route', [{ phase, ...route }]),
      hashed('handover', handovers.rows),
      orders.hash,
      hashed(
        'the last legacy traffic',
        seen.map(({ what, orderId, at }) => ({ what, orderId: orderId ?? null, at: at ?? null })),
      ),
    ],
  }
}

function hashed(what: string, rows: readonly unknown[]): HashedEvidence {
  const hash = evidenceHash(what)
  hash.add(rows)
  return hash.end()
}

function handedBack(rows: readonly unknown[], now: Date): LastSeen {
  const back = rows.findLast(
    (row): row is { order_id: string; to_path: string; at: Date } =>
      typeof row === 'object' && row !== null && 'to_path' in row && row.to_path === 'legacy',
  )
  return {
    what: 'hand-over of an order to CRM',
    ageMs: back === undefined ? undefined : now.getTime() - back.at.getTime(),
    orderId: back?.order_id,
  }
}

type Sighting = LastSeen & { readonly at: Date | undefined }

async function latest(
  pool: Pool,
  what: string,
  sql: string,
  values: readonly unknown[] = [],
): Promise<Sighting> {
  const { rows } = await pool.query<{ orderId: string | null; at: Date; ageMs: number }>(
    `SELECT l."orderId", l.at, (extract(epoch FROM clock_timestamp() - l.at) * 1000)::float8 AS "ageMs" FROM (${sql}) l`,
    [...values],
  )
  const row = rows[0]
  return { what, ageMs: row?.ageMs, orderId: row?.orderId ?? undefined, at: row?.at }
}

/** Each on the clock of its own database. */
async function readLastSeen(
  { ledger, shop }: Databases,
  phase: PhaseId,
): Promise<readonly Sighting[]> {
  if (phase === 'orders-direct') {
    const taken = await lastTakenByCrm(shop)
    return [
      await latest(
        shop,
        'decision for the legacy path',
        `SELECT order_id::text AS "orderId", at FROM strangler.outbox WHERE path = 'legacy' ORDER BY id DESC LIMIT 1`,
      ),
      await latest(
        shop,
        'order that CRM took up',
        'SELECT $1::text AS "orderId", $2::timestamptz AS at WHERE $2::timestamptz IS NOT NULL',
        [taken?.orderId ?? null, taken?.at ?? null],
      ),
      await latest(
        ledger,
        'submitted order that CRM sent',
        `SELECT order_id AS "orderId", received_at AS at FROM bridge_inbox
         WHERE queue = 'mes.orders' AND routing_key = 'order.submitted' ORDER BY id DESC LIMIT 1`,
      ),
    ]
  }
  if (phase === 'partner-intake')
    return [
      await latest(
        ledger,
        'order that the MES took over its own API',
        `SELECT order_id AS "orderId", accepted_at AS at FROM order_ledger WHERE ${legacyOf[phase]} ORDER BY accepted_at DESC LIMIT 1`,
      ),
    ]
  return [
    await latest(
      ledger,
      'status or price that CRM was given',
      `SELECT order_id AS "orderId", received_at AS at FROM bridge_inbox
       WHERE queue = 'crm.events' AND routing_key IN ('order.price_calculated', 'order.status_changed') AND state <> 'diverted'
       ORDER BY id DESC LIMIT 1`,
    ),
    await latest(
      shop,
      'status or price that CRM wrote',
      `SELECT * FROM (
         SELECT order_id::text AS "orderId", at FROM strangler.crm_writes
         UNION ALL SELECT order_id::text, at FROM strangler.late_writes) w ORDER BY at DESC LIMIT 1`,
    ),
  ]
}

interface LegacyOrders {
  readonly hash: HashedEvidence
  readonly stragglers: readonly { readonly orderId: string; readonly says: string }[]
  readonly count: number
}

/** Every order that was ever decided legacy, a page at a time. */
async function readLegacyOrders(databases: Databases, phase: PhaseId): Promise<LegacyOrders> {
  const inMes = new Set(await openInMes(databases.mes, 0))
  const hash = evidenceHash('legacy orders with their status in the Shop')
  const stragglers: { orderId: string; says: string }[] = []
  let count = 0
  let after: string | undefined
  do {
    const page =
      phase === 'orders-direct'
        ? await legacyOrdersPage(databases.shop, after ?? '0', pageSize)
        : await legacyInLedgerPage(databases, phase, after ?? '', pageSize)
    hash.add(page.orders)
    for (const { orderId, status } of page.orders) {
      const says =
        status === null
          ? 'the Shop does not have it any more'
          : status !== 'CLOSED'
            ? `the Shop says ${status}`
            : inMes.has(orderId)
              ? 'the MES still works on it'
              : undefined
      if (says === undefined) continue
      count += 1
      if (stragglers.length < named) stragglers.push({ orderId, says })
    }
    after = page.last
  } while (after !== undefined)
  return { hash: hash.end(), stragglers, count }
}

/** Of the phases whose decisions are in the ledger: which orders went the old way. */
const legacyOf = {
  'statuses-direct': `status_path = 'legacy'`,
  'partner-intake': `path = 'legacy' AND origin <> 'shop'`,
} as const

async function legacyInLedgerPage(
  { ledger, shop }: Databases,
  phase: keyof typeof legacyOf,
  after: string,
  limit: number,
) {
  const { rows } = await ledger.query<{ orderId: string; epoch: number; decidedAt: Date }>(
    `SELECT order_id AS "orderId", ${phase === 'statuses-direct' ? 'status_epoch' : 'path_epoch'} AS epoch, accepted_at AS "decidedAt"
     FROM order_ledger WHERE order_id > $1 AND ${legacyOf[phase]} ORDER BY order_id LIMIT $2`,
    [after, limit],
  )
  const statuses = await shopStatuses(
    shop,
    rows.map(({ orderId }) => orderId),
  )
  return {
    orders: rows.map((row) => ({ ...row, status: statuses.get(row.orderId) ?? null })),
    last: rows.at(-1)?.orderId,
  }
}
