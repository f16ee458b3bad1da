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
  return { ...(await runningInShop(shop)), ...(await runningInLedger(ledger)) }
}

type InShop = Pick<Running, 'share' | 'relays' | 'trigger' | 'unrelayedMs'>
type InLedger = Omit<Running, keyof InShop>

export async function runningInShop(shop: Pool): Promise<InShop> {
  const { rows } = await shop.query<Omit<InShop, 'unrelayedMs'> & { waits: number | null }>(
    `SELECT coalesce((SELECT CASE WHEN tgenabled IN ('O', 'A') THEN 'enabled' ELSE 'disabled' END FROM pg_trigger
         WHERE tgrelid = 'public.orders'::regclass AND tgname = 'strangler_capture'), 'missing') AS trigger,
       coalesce((SELECT max(share) FROM strangler.route), 0) AS share,
       (SELECT count(*)::int FROM pg_stat_activity WHERE application_name = 'strangler-relay') AS relays,
       (SELECT extract(epoch FROM clock_timestamp() - min(at))::float8 * 1000 FROM strangler.outbox WHERE relayed_at IS NULL) AS waits`,
  )
  const { waits, ...found } = rows[0]!
  return { ...found, unrelayedMs: waits ?? undefined }
}

export async function runningInLedger(ledger: Pool): Promise<InLedger> {
  const { rows } = await ledger.query<Omit<InLedger, 'undeliveredMs'> & { waits: number | null }>(
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
  const { waits, ...found } = rows[0]!
  return { ...found, undeliveredMs: waits ?? undefined }
}

/** What of a phase's new way is not there, in words. A process may be just about to come back. */
export interface Missing {
  readonly parts: readonly string[]
  readonly processes: readonly string[]
}

export function missingForOrders(running: Running): Missing {
  const { trigger, ordersBridge, relays, couriers, watches } = running
  return {
    parts: [
      ...(ordersBridge === 'inserted' ? [] : [`the bridge of mes.orders is ${ordersBridge}`]),
      ...(trigger === 'enabled' ? [] : [`the trigger strangler_capture is ${trigger}`]),
    ],
    processes: [
      ...(relays > 0 ? [] : ['no relay runs']),
      ...(couriers > 0 ? [] : ['no courier runs']),
      ...(watches > 0 ? [] : ['no watch runs']),
    ],
  }
}
