import type { Finding } from '../../runtime/finding.ts'
import type { Pool } from '../../runtime/postgres.ts'
import type { Missing } from './running.ts'

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
  const inShop = await shop.query<
    Pick<StatusesRunning, 'fence' | 'fencedWriters' | 'appliers' | 'shadows' | 'crmWritesWaiting'>
  >(
    `SELECT coalesce((SELECT CASE WHEN tgenabled IN ('O', 'A') THEN 'enabled' ELSE 'disabled' END FROM pg_trigger
         WHERE tgrelid = 'public.orders'::regclass AND tgname = 'strangler_fence'), 'missing') AS fence,
       (SELECT count(*)::int FROM strangler.fenced_writer f JOIN pg_roles r ON r.rolname = f.role) AS "fencedWriters",
       (SELECT count(*)::int FROM pg_stat_activity WHERE application_name = 'strangler-applier') AS appliers,
       (SELECT count(*)::int FROM pg_stat_activity WHERE application_name = 'strangler-shadow') AS shadows,
       (SELECT count(*)::int FROM (SELECT FROM strangler.crm_writes LIMIT 100000) w) AS "crmWritesWaiting"`,
  )
  const inLedger = await ledger.query<
    Pick<StatusesRunning, 'share' | 'parked' | 'eventsBridge'> & { waits: number | null }
  >(
    `SELECT coalesce((SELECT share FROM strangler.route WHERE phase = 'statuses-direct'), 0) AS share,
       (SELECT count(*)::int FROM status_inbox WHERE state = 'parked') AS parked,
       (SELECT extract(epoch FROM clock_timestamp() - min(received_at))::float8 * 1000 FROM status_inbox
         WHERE state IN ('open', 'waiting')) AS waits,
       coalesce((SELECT state FROM bridge WHERE queue = 'crm.events'), 'absent') AS "eventsBridge"`,
  )
  const { waits, ...ofLedger } = inLedger.rows[0]!
  return { ...inShop.rows[0]!, ...ofLedger, unappliedMs: waits ?? undefined }
}

export function judgeStatusesRunning(running: StatusesRunning): Finding[] {
  const { fence, fencedWriters, share, appliers, shadows, unappliedMs, parked } = running
  const needed = share > 0 || unappliedMs !== undefined
  const findings: Finding[] = [
    fence === 'enabled'
      ? { level: 'ok', subject: 'trigger strangler_fence', says: fence }
      : {
          level: needed ? 'unsafe' : 'warn',
          subject: 'trigger strangler_fence',
          says: `${fence}: a late write of CRM would stick`,
          fix:
            fence === 'missing'
              ? 'strangler migrate --only shop'
              : 'ALTER TABLE public.orders ENABLE TRIGGER strangler_fence',
        },
    fencedWriters > 0
      ? { level: 'ok', subject: 'fenced writers', says: `${fencedWriters} logins of CRM` }
      : {
          level: needed ? 'unsafe' : 'warn',
          subject: 'fenced writers',
          says: 'none of the logins in strangler.fenced_writer exists: CRM is not told apart',
          fix: "INSERT INTO strangler.fenced_writer VALUES ('<the login of CRM>')",
        },
    appliers > 0
      ? { level: 'ok', subject: 'applier', says: 'runs' }
      : {
          level: needed ? 'unsafe' : 'warn',
          subject: 'applier',
          says: 'none runs',
          fix: 'start one',
        },
  ]
  if (shadows === 0 && running.crmWritesWaiting > 10_000) {
    findings.push({
      level: 'warn',
      subject: 'shadow',
      says: `none runs, and ${running.crmWritesWaiting} or more writes of CRM wait to be compared`,
      fix: 'start one',
    })
  }
  if (unappliedMs !== undefined && unappliedMs > 60_000) {
    findings.push({
      level: 'unsafe',
      subject: 'status inbox',
      says: `a status waits there for ${(unappliedMs / 1000).toFixed(0)} s`,
      fix: '"strangler statuses" says what it waits for',
    })
  }
  if (parked > 0) {
    findings.push({
      level: 'warn',
      subject: 'parked statuses',
      says: `${parked} wait for a person`,
      fix: '"strangler statuses" lists them; accept or drop each',
    })
  }
  return findings
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
