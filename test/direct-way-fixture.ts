import type { ExecutionContext } from 'ava'
import type pg from 'pg'

import { parseShare } from '../contracts/path-share.ts'
import { type Estate, type EstateOptions, startEstate } from '../estate/estate.ts'
import { violations } from '../estate/invariants.ts'
import { withClient } from '../estate/postgres-server.ts'
import { advancePhase } from '../flags/phase-journal.ts'
import { createLog } from '../runtime/log.ts'
import { createPool } from '../runtime/postgres.ts'
import type { Pool } from '../runtime/postgres.ts'
import { waitUntilIn } from './wait-until.ts'

// Small periods, so that a death is certified and a doubt settled within a test; the relation between them is production's.
const periods = { KILL_PERIOD_MS: '1000', SETTLE_MS: '1000' }
const courier = { ...periods, QUIET_MS: '1000', PROBE_MS: '300' }

/** The direct way with the real MES at its end; orders are submitted to the Shop DB, no page is needed. */
export function startDirectWay(options: EstateOptions = {}): Promise<Estate> {
  return startEstate({
    without: ['shop', 'crm', 'proxy', 'bridge', 'applier', 'shadow'],
    ...options,
    settings: {
      mes: { MES_PRICE_US_PER_TRIANGLE: '0' },
      courier,
      watch: periods,
      ...options.settings,
    },
  })
}

export async function moveShare(estate: Estate, share: string): Promise<void> {
  const log = createLog('test')
  const { databases } = estate
  const ledger = createPool(databases.ledger, { name: 'test', max: 1, log })
  const shop = createPool(databases.shop, { name: 'test', max: 1, log })
  try {
    const act = { ledger, seam: shop, phase: 'orders-direct', who: 'test', why: 'test' } as const
    await advancePhase({ ...act, share: parseShare(share)! })
  } finally {
    await Promise.all([ledger.end(), shop.end()])
  }
}

/**
 * The MES of the estate stores a message again that a broker delivers again after its crash. Where a test crashes the server of
 * the broker, the guard takes that out, and tells second sends, which would be ours, from redeliveries.
 */
export async function installGuard(estate: Estate): Promise<void> {
  const result = await estate.stranglerWith(
    { MES_URL: estate.databases.mes },
    'mes-guard',
    'install',
  )
  if (result.code !== 0) throw new Error(`mes-guard install: ${result.stderr}`)
}

/** How many orders the guard has seen sent twice. */
export async function secondSends(estate: Estate): Promise<unknown> {
  const { stdout } = await estate.stranglerWith(
    { MES_URL: estate.databases.mes },
    'mes-guard',
    'status',
    '--json',
  )
  const state: unknown = JSON.parse(stdout)
  return typeof state === 'object' && state !== null && 'droppedSecondSends' in state
    ? state.droppedSecondSends
    : stdout
}

/** Resolves with the first line of this event, or that matches. Call it before what makes the process say so. */
export function says(
  estate: Estate,
  name: 'relay' | 'courier' | 'bridge' | 'watch',
  event: string | RegExp,
  deadlineMs = 60_000,
): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const stop = estate.process(name).onLine((line) => {
    if (typeof event === 'string' ? line.includes(`"event":"${event}"`) : event.test(line))
      resolve(line)
  })
  const timer = setTimeout(
    () => reject(new Error(`${name} never said ${String(event)}`)),
    deadlineMs,
  )
  const heard = promise.finally(() => {
    stop()
    clearTimeout(timer)
  })
  // A test that failed before it came to wait has its own reason.
  heard.catch(() => undefined)
  return heard
}

export function ledgerStates(estate: Estate): Promise<Record<string, number>> {
  return withClient(estate.databases.ledger, ledgerStatesIn)
}

export async function ledgerStatesIn(ledger: Pool | pg.Client): Promise<Record<string, number>> {
  const { rows } = await ledger.query<{ state: string; count: number }>(
    `SELECT state, count(*)::int AS count FROM order_ledger WHERE path = 'direct' GROUP BY state`,
  )
  return Object.fromEntries(rows.map((row) => [row.state, row.count]))
}

/** Waits until the MES holds every one of these orders, then judges by the Shop DB and the MES DB that each is there once. */
export async function expectEachOnce(
  t: ExecutionContext,
  estate: Estate,
  ids: readonly string[],
  deadlineMs = 90_000,
): Promise<void> {
  const { mes, ledger } = estate.databases
  await waitUntilIn(
    [mes, ledger],
    `${ids.length} orders in the MES and delivered in the ledger`,
    async (inMes, inLedger) => {
      const held = await mesRowsIn(inMes, ids)
      const open = await openInLedger(inLedger)
      if (held.size === ids.length && open.length === 0) return true
      const some = open.slice(0, 10).join('; ')
      throw new Error(
        `MES holds ${held.size} of ${ids.length}, ${open.length} open in the ledger: ${some}`,
      )
    },
    deadlineMs,
  )
  const rows = await mesRows(estate, ids)
  t.deepEqual(
    [...rows].filter(([, count]) => count !== 1),
    [],
    'every order is in the MES exactly once',
  )
  t.deepEqual(await violations(estate, 'quiet'), [])
}

export function mesRows(estate: Estate, ids: readonly string[]): Promise<Map<string, number>> {
  return withClient(estate.databases.mes, (client) => mesRowsIn(client, ids))
}

async function mesRowsIn(
  mes: Pool | pg.Client,
  ids: readonly string[],
): Promise<Map<string, number>> {
  const { rows } = await mes.query<{ id: string; count: number }>(
    `SELECT order_id::text AS id, count(*)::int AS count FROM orders WHERE order_id = ANY($1::uuid[]) GROUP BY order_id`,
    [ids],
  )
  return new Map(rows.map((row) => [row.id, row.count]))
}

async function openInLedger(ledger: Pool): Promise<string[]> {
  const { rows } = await ledger.query<{ line: string }>(
    `SELECT concat_ws(' ', order_id, state, 'owner', owner_id, 'attempts', attempts, 'sending', sending_at, 'doubt', doubt_at,
       'next', next_attempt_at, 'now', clock_timestamp()) AS line FROM order_ledger
     WHERE state NOT IN ('delivered', 'dead', 'cancelled')`,
  )
  return rows.map(({ line }) => line)
}

/** Resolves when a process of ours has reached the named failpoint. Call it before what makes it happen. */
export function reaches(
  estate: Estate,
  name: 'relay' | 'courier' | 'bridge',
  failpoint: string,
): Promise<void> {
  return new Promise((resolve) => {
    const stop = estate.process(name).onLine((line) => {
      if (!line.includes(`failpoint ${failpoint} `)) return
      stop()
      resolve()
    })
  })
}
