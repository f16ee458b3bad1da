import {
  countDirect,
  countSince,
  finishHandOvers,
  listAccepted,
  takeFromCouriers,
  takeFromRelay,
  unfinishedHandOvers,
} from '../../delivery/hand-over.ts'
import type { HandOverAct } from '../../delivery/hand-over.ts'
import { compareOrders } from '../../delivery/reconcile.ts'
import type { Drain } from '../../flags/rollback.ts'
import { failpoint } from '../../runtime/failpoint.ts'
import type { Pool } from '../../runtime/postgres.ts'
import { legacySides } from '../wire/reconcile-sides.ts'
import { countUnrelayed, handBack, listUnrelayed, readShopOrders } from '../wire/shop-orders.ts'
import { loadSubmittedOrders } from './load-submitted-orders.ts'

const batch = 500

interface Sources {
  readonly ledger: Pool
  readonly shop: Pool
  readonly mes: Pool
}

/** The direct path of the orders: outbox, ledger, courier. */
export function ordersDrain(sources: Sources): Drain {
  const { ledger, shop, mes } = sources
  return {
    async underWay(epoch) {
      const [{ accepted, sending, inDoubt }, unrelayed] = await Promise.all([
        countDirect(ledger, 'shop', epoch),
        countUnrelayed(shop, epoch),
      ])
      return { waiting: accepted + unrelayed, inHand: sending, inDoubt }
    },
    async handOver(act) {
      let handed = 0
      for (;;) {
        const waiting = await listUnrelayed(shop, act.epoch, batch)
        const { readable } = await loadSubmittedOrders(shop, await stillSubmitted(shop, waiting))
        const taken = await takeFromRelay(ledger, act, readable)
        if (taken === 0) break
        handed += taken
        failpoint('handover.recorded')
        await giveBack(sources, act)
      }
      let page: string[] = []
      do {
        page = await listAccepted(ledger, act.epoch, page.at(-1), batch)
        const taken = await takeFromCouriers(ledger, act, await stillSubmitted(shop, page))
        handed += taken
        if (taken > 0) failpoint('handover.recorded')
      } while (page.length === batch)
      await giveBack(sources, act)
      return handed
    },
    async verify() {
      const differences = await compareOrders(
        { ledger, legacy: legacySides(shop, mes), watermarkMs: 0 },
        await recentlyDirect(ledger),
      )
      return differences
        .filter(({ kind }) => kind === 'lost' || kind === 'duplicate' || kind === 'ghost')
        .map(({ kind, orderId, says }) => `${orderId} ${kind}: ${says}`)
    },
    async counts({ epoch, phase, at }) {
      const { delivered, handedOver, settled } = await countSince(ledger, 'shop', {
        epoch,
        phase,
        at,
      })
      return {
        finishedDirect: delivered,
        handedOver,
        settledByEvidence: settled,
        stayDirect: 0,
        unsettled: [],
      }
    },
  }
}

/**
 * CRM takes up what is SUBMITTED, and nothing else: an order that went on, and is sent again because the MES lost it, has only the
 * couriers to bring it there.
 */
async function stillSubmitted(shop: Pool, ids: readonly string[]): Promise<string[]> {
  const orders = await readShopOrders(shop, { ids })
  return orders.filter(({ status }) => status === 'SUBMITTED').map(({ orderId }) => orderId)
}

/** Every recorded hand-over to its end. */
async function giveBack(
  { ledger, shop }: Sources,
  { phase, epoch }: Pick<HandOverAct, 'phase' | 'epoch'>,
): Promise<void> {
  for (;;) {
    const orderIds = await unfinishedHandOvers(ledger, phase, batch)
    if (orderIds.length === 0) return
    await handBack(shop, orderIds, epoch)
    failpoint('handover.given-back')
    await finishHandOvers(ledger, phase, orderIds)
  }
}

const recent = '1 day'

async function recentlyDirect(ledger: Pool): Promise<string[]> {
  const { rows } = await ledger.query<{ order_id: string }>(
    `SELECT order_id FROM order_ledger
     WHERE accepted_at >= clock_timestamp() - $1::interval AND (path = 'direct' OR path_reason ->> 'rule' = 'handed over')
     UNION SELECT order_id FROM handover WHERE phase = 'orders-direct' AND at >= clock_timestamp() - $1::interval`,
    [recent],
  )
  return rows.map((row) => row.order_id)
}
