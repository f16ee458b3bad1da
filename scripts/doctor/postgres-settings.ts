import { missingMigrations } from '../../runtime/apply-migrations.ts'
import type { MigrationFolder } from '../../runtime/apply-migrations.ts'
import type { Finding } from '../../runtime/finding.ts'
import { withoutSecrets } from '../../runtime/log.ts'
import type { Pool } from '../../runtime/postgres.ts'

interface Facts {
  synchronous_commit: string
  fsync: string
  full_page_writes: string
  version: number
  superuser: boolean
  role: string
  standbys: number
  synchronous_standby_names: string
  /** Logins of ours for which somebody has set synchronous_commit off: what this session sees is not what they get. */
  unsynchronized_roles: string[]
}

/** What an acknowledged order asks of a PostgreSQL server. `keeps` = what we store there must outlive a crash. */
export async function inspectPostgres(
  name: string,
  pool: Pool,
  url: string,
  folder: MigrationFolder,
  keeps: boolean,
): Promise<Finding[]> {
  try {
    const { rows } = await pool.query<Facts>(
      `SELECT current_setting('synchronous_commit') AS synchronous_commit, current_setting('fsync') AS fsync,
         current_setting('full_page_writes') AS full_page_writes, current_setting('server_version_num')::int AS version,
         r.rolsuper AS superuser, r.rolname AS role, current_setting('synchronous_standby_names') AS synchronous_standby_names,
         (SELECT count(*)::int FROM pg_stat_replication WHERE application_name <> '') AS standbys,
         ARRAY(
           SELECT DISTINCT l.rolname::text FROM pg_db_role_setting s JOIN pg_roles l ON l.oid = s.setrole AND l.rolcanlogin,
             unnest(s.setconfig) AS setting
           WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
             AND lower(setting) IN ('synchronous_commit=off', 'synchronous_commit=false', 'synchronous_commit=no', 'synchronous_commit=0')
             AND EXISTS (SELECT FROM pg_roles g WHERE g.rolname LIKE 'strangler\\_%' AND pg_has_role(l.oid, g.oid, 'MEMBER'))
           ORDER BY 1) AS unsynchronized_roles
       FROM pg_roles r WHERE r.rolname = current_user`,
    )
    const missing = await missingMigrations(url, folder)
    return judgePostgres(name, rows[0]!, missing, folder, keeps)
  } catch (error) {
    const says = withoutSecrets(
      error instanceof Error ? error.message || error.name : String(error),
    )
    return [{ level: 'unread', subject: name, says, fix: 'is the server up, and the URL right?' }]
  }
}

export function judgePostgres(
  name: string,
  facts: Facts,
  missing: readonly string[],
  folder: MigrationFolder,
  keeps: boolean,
): Finding[] {
  const must = (
    setting: 'synchronous_commit' | 'fsync' | 'full_page_writes',
    safe: string[],
  ): Finding => {
    const says = facts[setting]
    const subject = `${name} ${setting}`
    if (safe.includes(says)) return { level: 'ok', subject, says }
    const fix = `set ${setting} = on: a crash may take back what was acknowledged`
    return { level: keeps ? 'unsafe' : 'warn', subject, says, fix }
  }
  const findings = [
    must('synchronous_commit', ['on', 'remote_apply', 'remote_write', 'local']),
    must('fsync', ['on']),
    must('full_page_writes', ['on']),
  ]
  for (const role of facts.unsynchronized_roles) {
    findings.push({
      level: keeps ? 'unsafe' : 'warn',
      subject: `${name} synchronous_commit of ${role}`,
      says: 'off by ALTER ROLE',
      fix: `ALTER ROLE ${role} RESET synchronous_commit (also IN DATABASE): a crash may take back what it acknowledged`,
    })
  }
  const version = Math.floor(facts.version / 10_000)
  findings.push(
    version >= 14
      ? { level: 'ok', subject: `${name} version`, says: `PostgreSQL ${version}` }
      : {
          level: 'unsafe',
          subject: `${name} version`,
          says: `PostgreSQL ${version}`,
          fix: 'PostgreSQL 14 or newer is needed',
        },
    missing.length === 0
      ? { level: 'ok', subject: `${name} migrations`, says: 'all present' }
      : {
          level: 'unsafe',
          subject: `${name} migrations`,
          says: `missing: ${missing.join(', ')}`,
          fix: `strangler migrate --only ${folder}`,
        },
  )
  if (facts.superuser) {
    findings.push({
      level: 'warn',
      subject: `${name} role`,
      says: `${facts.role} is a superuser`,
      fix: 'give the URL of a role that is only a member of strangler_operator',
    })
  }
  if (keeps && facts.standbys > 0 && facts.synchronous_standby_names === '') {
    findings.push({
      level: 'warn',
      subject: `${name} standby`,
      says: `${facts.standbys} connected, none synchronous: a failover loses acknowledged orders`,
      fix: "set synchronous_standby_names = 'ANY 1 (...)'",
    })
  }
  return findings
}

/** How far two servers' clocks are apart: half of the round trip is not known, so the smallest of several is taken. */
export async function inspectSkew(ledger: Pool, shop: Pool): Promise<Finding[]> {
  const subject = 'clocks of Shop DB and ledger'
  try {
    let best = { skew: 0, uncertain: Number.POSITIVE_INFINITY }
    for (let round = 0; round < 5; round += 1) {
      const one = await clockOffset(ledger)
      const other = await clockOffset(shop)
      const uncertain = one.uncertain + other.uncertain
      if (uncertain < best.uncertain) best = { skew: other.offset - one.offset, uncertain }
    }
    const says = `${best.skew.toFixed(1)} ms apart (+- ${best.uncertain.toFixed(1)} ms)`
    return Math.abs(best.skew) - best.uncertain <= 100
      ? [{ level: 'ok', subject, says }]
      : [
          {
            level: 'warn',
            subject,
            says,
            fix: 'set the clocks by NTP; ages are measured on one clock each and stay right',
          },
        ]
  } catch (error) {
    return [
      { level: 'unread', subject, says: error instanceof Error ? error.message : String(error) },
    ]
  }
}

async function clockOffset(pool: Pool): Promise<{ offset: number; uncertain: number }> {
  const sent = performance.now()
  const { rows } = await pool.query<{ at: number }>(
    'SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS at',
  )
  const back = performance.now()
  return { offset: rows[0]!.at - (sent + back) / 2, uncertain: (back - sent) / 2 }
}
