import type { Pool } from '../../runtime/postgres.ts'
import type { Missing } from './orders-running.ts'

/** What shows that the parts of the statuses' direct way are there and keep up. Ages in milliseconds. */
export interface StatusesRunning {
  readonly fence: 'enabled' | 'disabled' | 'missing'
  readonly fencedWriters: number
  readonly share: number
  readonly appliers: number
  readonly shadows: number
  readonly unappliedMs: number | undefined
  readonly parked: number
  readonly crmWritesWaiting: number
  readonly eventsBridge: string
}

export async function readStatusesRunning(ledger: Pool, shop: Pool): Promise<StatusesRunning> {
  return { ...(await statusesRunningInShop(shop)), ...(await statusesRunningInLedger(ledger)) }
}

type InLedger = Pick<StatusesRunning, 'share' | 'parked' | 'unappliedMs' | 'eventsBridge'>
type InShop = Omit<StatusesRunning, keyof InLedger>

export async function statusesRunningInShop(shop: Pool): Promise<InShop> {
  const { rows } = await shop.query<InShop>(
    `SELECT coalesce((SELECT CASE WHEN tgenabled IN ('O', 'A') THEN 'enabled' ELSE 'disabled' END FROM pg_trigger
         WHERE tgrelid = 'public.orders'::regclass AND tgname = 'strangler_fence'), 'missing') AS fence,
       (SELECT count(*)::int FROM strangler.fenced_writer f JOIN pg_roles r ON r.rolname = f.role) AS "fencedWriters",
       (SELECT count(*)::int FROM pg_stat_activity WHERE application_name = 'strangler-applier') AS appliers,
       (SELECT count(*)::int FROM pg_stat_activity WHERE application_name = 'strangler-shadow') AS shadows,
       (SELECT count(*)::int FROM (SELECT FROM strangler.crm_writes LIMIT 100000) w) AS "crmWritesWaiting"`,
  )
  return rows[0]!
}

export async function statusesRunningInLedger(ledger: Pool): Promise<InLedger> {
  const { rows } = await ledger.query<Omit<InLedger, 'unappliedMs'> & { waits: number | null }>(
    `SELECT coalesce((SELECT share FROM strangler.route WHERE phase = 'statuses-direct'), 0) AS share,
       (SELECT count(*)::int FROM status_inbox WHERE state = 'parked') AS parked,
       (SELECT extract(epoch FROM clock_timestamp() - min(received_at))::float8 * 1000 FROM status_inbox
         WHERE state IN ('open', 'waiting')) AS waits,
       coalesce((SELECT state FROM bridge WHERE queue = 'crm.events'), 'absent') AS "eventsBridge"`,
  )
  const { waits, ...found } = rows[0]!
  return { ...found, unappliedMs: waits ?? undefined }
}

export function missingForStatuses(running: StatusesRunning): Missing {
  const { eventsBridge, fence, fencedWriters, appliers } = running
  return {
    parts: [
      ...(eventsBridge === 'inserted' ? [] : [`the bridge of crm.events is ${eventsBridge}`]),
      ...(fence === 'enabled' ? [] : [`the trigger strangler_fence is ${fence}`]),
      ...(fencedWriters > 0 ? [] : ['no login of CRM is fenced']),
    ],
    processes: appliers > 0 ? [] : ['no applier runs'],
  }
}
