import type { StatusesRunning } from '../../adapters/gates/statuses-running.ts'
import type { Finding } from '../../runtime/finding.ts'

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
