import { setTimeout as pause } from 'node:timers/promises'

import { readReplicas } from '../../flags/replicas.ts'
import type { Pool } from '../../runtime/postgres.ts'
import type { PartnerDatabases } from './change-partner.ts'

/** What a proxy last said in `proxy_replica`. */
interface ProxyRow {
  readonly host: string
  readonly pid: number
  readonly seen: number
  readonly oldestOpen: number
  readonly openWrites: number
  /** Silent for longer than its lease: it sends no partner anywhere, and has nothing at work that it has not told of. */
  readonly lapsed: boolean
  readonly silentMs: number
}

export interface ProxyWait {
  readonly version: number
  /** Writes that were sent to the MES by an older version must be over as well, wherever they are. */
  readonly untilWritesAreOver: boolean
  readonly withinMs: number
  /** Proxies that lapsed, `pid@host`, which somebody has found dead: what they had open is over. */
  readonly dead?: readonly string[]
  readonly onProgress?: ((line: string) => void) | undefined
}

export type ProxiesWaited = { readonly waitedMs: number } & (
  | { readonly complete: true; readonly acknowledged: number }
  | { readonly complete: false; readonly heldBy: string }
)

const forgottenAfter = '1 hour'

/** Waits until no proxy acts, or can still act, by a version below this one. */
export async function waitForProxies(
  databases: PartnerDatabases,
  wait: ProxyWait,
): Promise<ProxiesWaited> {
  const started = performance.now()
  let tellAfterMs = 1000
  for (let rounds = 1; ; rounds += 1) {
    const rows = await readProxies(databases.intake)
    const heldBy =
      rows.map((row) => reasonToWait(row, wait)).find((reason) => reason !== undefined) ??
      (await proxyWithoutRoutes(databases.ledger, rows))
    const waitedMs = performance.now() - started
    if (heldBy === undefined) {
      const acknowledged = rows.filter(({ lapsed }) => !lapsed).length
      return { complete: true, waitedMs, acknowledged }
    }
    if (waitedMs >= wait.withinMs) return { complete: false, waitedMs, heldBy }
    if (waitedMs > tellAfterMs) {
      tellAfterMs = waitedMs + 5000
      wait.onProgress?.(`waiting for ${heldBy}`)
    }
    await pause(Math.min(10 * rounds, 100))
  }
}

/** Those of the last hour; one that has been silent for longer is forgotten. */
export async function readProxies(intake: Pool): Promise<ProxyRow[]> {
  const { rows } = await intake.query<ProxyRow>(
    `SELECT host, pid, seen_version::float8 AS seen, oldest_open::float8 AS "oldestOpen", open_writes AS "openWrites",
       silent > lease_ms AS lapsed, silent AS "silentMs"
     FROM (SELECT *, extract(epoch FROM clock_timestamp() - seen_at)::float8 * 1000 AS silent FROM proxy_replica
           WHERE seen_at > clock_timestamp() - $1::interval) r
     ORDER BY host, pid`,
    [forgottenAfter],
  )
  return rows
}

function reasonToWait(row: ProxyRow, wait: ProxyWait): string | undefined {
  const { seen, oldestOpen, openWrites, lapsed, silentMs } = row
  const name = `proxy ${row.pid} on ${row.host}`
  const hasOpen = wait.untilWritesAreOver && openWrites > 0 && oldestOpen < wait.version
  if (lapsed) {
    if (!hasOpen || wait.dead?.includes(`${row.pid}@${row.host}`) === true) return undefined
    return `${name}, silent for ${Math.round(silentMs / 1000)} s with ${openWrites} writes to the MES open,`
  }
  if (seen < wait.version) return `${name}, which has not acknowledged version ${wait.version},`
  return hasOpen ? `${name}, which has ${openWrites} writes to the MES open,` : undefined
}

/** One that runs, as its lease in the ledger says, and tells nothing of partners: it sends all of them to the MES. */
export async function proxyWithoutRoutes(
  ledger: Pool,
  rows: readonly ProxyRow[],
): Promise<string | undefined> {
  const without = (await readReplicas(ledger)).find(
    ({ kind, host, pid, lapsed }) =>
      kind === 'proxy' && !lapsed && !rows.some((row) => row.host === host && row.pid === pid),
  )
  if (without === undefined) return undefined
  return `proxy ${without.pid} on ${without.host}, which sends every partner to the MES (INTAKE_URL and INTAKE_UPSTREAM are not set, or it is just starting),`
}
