import type { Finding } from '../../runtime/finding.ts'
import type { Pool } from '../../runtime/postgres.ts'

/** What shows that the parts of the direct way are there and keep up. Ages in milliseconds; undefined where nothing waits. */
export interface Running {
  readonly trigger: 'enabled' | 'disabled' | 'missing'
  readonly share: number
  readonly relays: number
  readonly unrelayedMs: number | undefined
  readonly couriers: number
  readonly watches: number
  readonly undeliveredMs: number | undefined
  readonly ordersBridge: string
  readonly held: number
}

/** Other roles' sessions show at least their name, and every role sees the locks. */
export async function readRunning(ledger: Pool, shop: Pool): Promise<Running> {
  const inShop = await shop.query<
    Pick<Running, 'share' | 'relays' | 'trigger'> & { waits: number | null }
  >(
    `SELECT coalesce((SELECT CASE WHEN tgenabled IN ('O', 'A') THEN 'enabled' ELSE 'disabled' END FROM pg_trigger
         WHERE tgrelid = 'public.orders'::regclass AND tgname = 'strangler_capture'), 'missing') AS trigger,
       coalesce((SELECT max(share) FROM strangler.route), 0) AS share,
       (SELECT count(*)::int FROM pg_stat_activity WHERE application_name = 'strangler-relay') AS relays,
       (SELECT extract(epoch FROM clock_timestamp() - min(at))::float8 * 1000 FROM strangler.outbox WHERE relayed_at IS NULL) AS waits`,
  )
  const inLedger = await ledger.query<
    Pick<Running, 'couriers' | 'watches' | 'held' | 'ordersBridge'> & { waits: number | null }
  >(
    `WITH locks AS (SELECT classid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
     SELECT (SELECT count(*)::int FROM locks WHERE classid = 42) AS couriers,
       (SELECT count(*)::int FROM locks WHERE classid = 45)
         + (SELECT count(*)::int FROM pg_stat_activity WHERE application_name = 'strangler-watch') AS watches,
       (SELECT extract(epoch FROM clock_timestamp() - min(accepted_at))::float8 * 1000 FROM order_ledger
         WHERE path = 'direct' AND state NOT IN ('delivered', 'dead', 'cancelled')) AS waits,
       (SELECT count(*)::int FROM bridge_inbox WHERE state = 'held') AS held,
       coalesce((SELECT state FROM bridge WHERE queue = 'mes.orders'), 'absent') AS "ordersBridge"`,
  )
  const { waits: unrelayed, ...ofShop } = inShop.rows[0]!
  const { waits: undelivered, ...ofLedger } = inLedger.rows[0]!
  return {
    ...ofShop,
    ...ofLedger,
    unrelayedMs: unrelayed ?? undefined,
    undeliveredMs: undelivered ?? undefined,
  }
}

export function judgeRunning(running: Running): Finding[] {
  const { trigger, share, relays, unrelayedMs, couriers, watches, undeliveredMs, held } = running
  const findings: Finding[] = []
  const needed =
    share > 0 || unrelayedMs !== undefined || undeliveredMs !== undefined ? 'unsafe' : 'warn'
  const there = (subject: string, count: number): void => {
    findings.push(
      count > 0
        ? { level: 'ok', subject, says: 'runs' }
        : { level: needed, subject, says: 'none runs', fix: 'start one' },
    )
  }
  findings.push(
    trigger === 'enabled'
      ? { level: 'ok', subject: 'trigger strangler_capture', says: trigger }
      : {
          level: 'unsafe',
          subject: 'trigger strangler_capture',
          says: `${trigger}: no new order is captured`,
          fix:
            trigger === 'missing'
              ? 'strangler migrate --only shop'
              : 'ALTER TABLE public.orders ENABLE TRIGGER strangler_capture',
        },
  )
  there('relay', relays)
  there('courier', couriers)
  there('watch', watches)
  if (unrelayedMs !== undefined && unrelayedMs > 30_000) {
    findings.push({
      level: 'unsafe',
      subject: 'outbox of the Shop DB',
      says: `an order waits there for ${seconds(unrelayedMs)}`,
      fix: 'the relay is away or does not get through: look at its log',
    })
  }
  if (undeliveredMs !== undefined && undeliveredMs > 300_000) {
    findings.push({
      level: 'warn',
      subject: 'undelivered orders',
      says: `the oldest direct order waits for ${seconds(undeliveredMs)}`,
      fix: '"strangler status" counts them, "strangler order <id>" says why',
    })
  }
  if (held > 0) {
    findings.push({
      level: 'warn',
      subject: 'held messages',
      says: `${held} wait at the bridges for evidence`,
      fix: 'they go on by themselves once a bridge process can prove that it may send them',
    })
  }
  return findings
}

/** What of a phase's new way is not there, in words. A process may be just about to come back. */
export interface Missing {
  readonly parts: readonly string[]
  readonly processes: readonly string[]
}

export function missingForOrders({ trigger, ordersBridge, couriers }: Running): Missing {
  return {
    parts: [
      ...(ordersBridge === 'inserted' ? [] : [`the bridge of mes.orders is ${ordersBridge}`]),
      ...(trigger === 'enabled' ? [] : [`the trigger strangler_capture is ${trigger}`]),
    ],
    processes: couriers > 0 ? [] : ['no courier runs'],
  }
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(0)} s`
}
