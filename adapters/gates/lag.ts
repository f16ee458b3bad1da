import type { Conserved } from '../../delivery/reconcile-window.ts'
import type { GateResult } from '../../flags/gates.ts'
import type { PhaseId } from '../../flags/phases.ts'
import type { Pool } from '../../runtime/postgres.ts'
import type { GateSources } from './gate-sources.ts'
import { fail, notSound, pass, seconds, unsound } from './verdict.ts'

/** Something that waits at one place; milliseconds, undefined = nothing waits there. */
export interface Wait {
  readonly where: string
  readonly oldestMs: number | undefined
  readonly limitMs: number
  readonly orderId: string | undefined
  /** Why it waits, where that is known. */
  readonly because?: string | undefined
}

/** A status may wait for what has to come first, such as the order itself; not for ever. */
const waitingLimitMs = 300_000

export async function readWaits(
  { ledger, shop, intake }: GateSources,
  phase: PhaseId,
  lagMs: number,
): Promise<Wait[]> {
  switch (phase) {
    case 'orders-direct':
      return Promise.all([outbox(shop, lagMs), undelivered(ledger, lagMs)])
    case 'statuses-direct':
      return Promise.all([
        oldestStatus(ledger, 'open', lagMs),
        oldestStatus(ledger, 'waiting', waitingLimitMs),
      ])
    case 'partner-intake':
      return Promise.all([
        intakeOutbox(intake, lagMs),
        undelivered(ledger, lagMs),
        partnerEvents(ledger, lagMs),
        openForwards(intake, waitingLimitMs),
      ])
    default:
      return phase satisfies never
  }
}

/** What was sent to the MES and has not come in there, as the pass over the three sides found it. */
export function mesQueueWait(
  { inMesQueue, intake }: Pick<Conserved, 'inMesQueue' | 'intake'>,
  lagMs: number,
): Wait {
  return {
    where: "the MES's queue",
    oldestMs: inMesQueue?.oldestMs,
    limitMs: lagMs,
    orderId: undefined,
    because: intake.isDown
      ? 'the MES is down'
      : `the MES took in its latest order ${seconds(intake.tookLastMs)} ago`,
  }
}

interface Oldest {
  readonly orderId: string
  readonly ageMs: number
}

function waitOf(where: string, limitMs: number, [oldest]: readonly Oldest[]): Wait {
  return { where, limitMs, oldestMs: oldest?.ageMs, orderId: oldest?.orderId }
}

const age = (column: string): string =>
  `(extract(epoch FROM clock_timestamp() - ${column}) * 1000)::float8 AS "ageMs"`

async function outbox(shop: GateSources['shop'], limitMs: number): Promise<Wait> {
  const { rows } = await shop((pool) =>
    pool.query<Oldest>(
      `SELECT order_id::text AS "orderId", ${age('at')} FROM strangler.outbox WHERE relayed_at IS NULL ORDER BY id LIMIT 1`,
    ),
  )
  return waitOf('the outbox of the Shop DB', limitMs, rows)
}

async function intakeOutbox(intake: GateSources['intake'], limitMs: number): Promise<Wait> {
  const { rows } = await intake((pool) =>
    pool.query<Oldest & { orders: number; relayedMs: number | null }>(
      `SELECT order_id::text AS "orderId", ${age('at')}, (SELECT count(*)::int FROM outbox WHERE relayed_at IS NULL) AS orders,
         (extract(epoch FROM clock_timestamp() - (SELECT max(relayed_at) FROM outbox)) * 1000)::float8 AS "relayedMs"
       FROM outbox WHERE relayed_at IS NULL ORDER BY id LIMIT 1`,
    ),
  )
  const [oldest] = rows
  return {
    ...waitOf('the outbox of the intake', limitMs, rows),
    because:
      oldest === undefined
        ? undefined
        : `${oldest.orders} wait there for their turn, and its relay took one ${oldest.relayedMs === null ? 'never' : `${seconds(oldest.relayedMs)} ago`} (PARTNER_ORDERS_PER_MINUTE)`,
  }
}

async function partnerEvents(ledger: Pool, limitMs: number): Promise<Wait> {
  const { rows } = await ledger.query<Oldest>(
    `SELECT e.order_id AS "orderId", ${age('i.received_at')} FROM partner_event e JOIN bridge_inbox i ON i.id = e.id
     WHERE e.applied_at IS NULL ORDER BY e.id LIMIT 1`,
  )
  return waitOf("the events for the intake's database", limitMs, rows)
}

/** Requests that the MES was asked for, and of which nobody knows what became. */
async function openForwards(intake: GateSources['intake'], limitMs: number): Promise<Wait> {
  const { rows } = await intake((pool) =>
    pool.query<{ ageMs: number }>(
      `SELECT ${age('at')} FROM answer WHERE state = 'forwarding' ORDER BY at LIMIT 1`,
    ),
  )
  return {
    where: 'requests that the MES was asked for',
    limitMs,
    oldestMs: rows[0]?.ageMs,
    orderId: undefined,
  }
}

async function undelivered(ledger: Pool, limitMs: number): Promise<Wait> {
  const { rows } = await ledger.query<Oldest>(
    `SELECT order_id AS "orderId", ${age('accepted_at')} FROM order_ledger
     WHERE state NOT IN ('delivered', 'dead', 'cancelled') AND path = 'direct' ORDER BY accepted_at LIMIT 1`,
  )
  return waitOf('the ledger, undelivered', limitMs, rows)
}

async function oldestStatus(
  ledger: Pool,
  state: 'open' | 'waiting',
  limitMs: number,
): Promise<Wait> {
  const { rows } = await ledger.query<Oldest>(
    `SELECT order_id AS "orderId", ${age('received_at')} FROM status_inbox
     WHERE state IN ('open', 'waiting') AND state = $1 ORDER BY id LIMIT 1`,
    [state],
  )
  return waitOf(`the status inbox, ${state}`, limitMs, rows)
}

export function judgeLag(waits: readonly Wait[]): GateResult {
  const gate = {
    gate: 'lag',
    needed:
      waits.map(({ where, limitMs }) => `${where} <= ${seconds(limitMs)}`).join(', ') || 'a value',
    source: '"strangler status", "strangler bottleneck"',
  } as const
  if (waits.length === 0) return notSound(gate, ['nothing was looked at'])
  const wrong = waits.flatMap(({ where, oldestMs, limitMs }) =>
    unsound({ [where]: oldestMs ?? 0, [`the limit of ${where}`]: limitMs }),
  )
  if (wrong.length > 0) return notSound(gate, wrong)
  const measured = waits
    .map(
      ({ where, oldestMs }) =>
        `${where}: ${oldestMs === undefined ? 'nothing waits' : seconds(oldestMs)}`,
    )
    .join(', ')
  const late = waits.filter(({ oldestMs, limitMs }) => (oldestMs ?? 0) > limitMs)
  if (late.length === 0) return pass(gate, measured, 'what is on its way moves')
  const words = late.map(({ where, oldestMs, orderId, because }) => {
    const which = orderId === undefined ? 'an order waits' : `order ${orderId} waits`
    return `${which} in ${where} for ${seconds(oldestMs ?? 0)}${because === undefined ? '' : `: ${because}`}`
  })
  return fail(gate, measured, words.join('; '), {
    orderIds: late.flatMap(({ orderId }) => orderId ?? []),
    unblock: '"strangler doctor" says what does not run, "strangler order <id>" where it is',
  })
}
