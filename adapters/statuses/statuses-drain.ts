import { compareOrders } from '../../delivery/reconcile.ts'
import { listUnsettled } from '../../delivery/unsettled-statuses.ts'
import type { UnsettledStatus } from '../../delivery/unsettled-statuses.ts'
import type { Drain } from '../../flags/rollback.ts'
import type { Pool } from '../../runtime/postgres.ts'
import { legacySides } from '../wire/reconcile-sides.ts'

const recent = '1 day'
const named = 100
/** Statuses of direct orders go on coming after the rollback: what came just now is under way. */
const watermarkMs = 10_000

/**
 * The direct path of the statuses. Nothing is handed over: the statuses of an order that began there keep coming that way until
 * it is closed, so the path is empty when the inbox is. What waits for something outside, or for a person, keeps no receipt open:
 * it is named in it. Order by order `strangler repin` hands over.
 */
export function statusesDrain(sources: {
  readonly ledger: Pool
  readonly shop: Pool
  readonly mes: Pool
}): Drain {
  const { ledger, shop, mes } = sources
  return {
    async underWay() {
      const { rows } = await ledger.query<{ open: number }>(
        `SELECT count(*)::int AS open FROM status_inbox WHERE state = 'open'`,
      )
      return { waiting: 0, inHand: rows[0]!.open, inDoubt: [] }
    },
    handOver: () => Promise.resolve(0),
    async verify() {
      const { rows } = await ledger.query<{ order_id: string }>(
        `SELECT order_id FROM order_ledger WHERE status_path = 'direct' AND accepted_at >= clock_timestamp() - $1::interval`,
        [recent],
      )
      const differences = await compareOrders(
        { ledger, legacy: legacySides(shop, mes), watermarkMs },
        rows.map((row) => row.order_id),
      )
      return differences.map(({ kind, orderId, says }) => `${orderId} ${kind}: ${says}`)
    },
    async counts({ at }) {
      const applied = await ledger.query<{ events: number }>(
        `SELECT count(*)::int AS events FROM status_inbox WHERE settled_at >= $1 AND state = 'applied'`,
        [at],
      )
      const staying = await shop.query<{ orders: number }>(
        `SELECT count(*)::int AS orders FROM strangler.order_fence f JOIN public.orders o ON o.id = f.order_id WHERE o.status <> 'CLOSED' AND f.path = 'direct'`,
      )
      const unsettled = await listUnsettled(ledger, named)
      return {
        finishedDirect: applied.rows[0]!.events,
        handedOver: 0,
        settledByEvidence: 0,
        stayDirect: staying.rows[0]!.orders,
        unsettled: unsettled.map(inWords),
      }
    },
  }
}

function inWords({ id, orderId, state, status, reason }: UnsettledStatus): string {
  return `status ${id} of ${orderId} (${status ?? 'none'}) ${state === 'parked' ? 'is parked' : 'waits'}: ${reason ?? 'no reason kept'}`
}
