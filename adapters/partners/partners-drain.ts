import { countDirect, countSince } from '../../delivery/hand-over.ts'
import type { Drain } from '../../flags/rollback.ts'
import type { Pool } from '../../runtime/postgres.ts'
import { readPartnerBooks, type PartnerSides } from './partner-books.ts'

const dayMs = 86_400_000
/** Statuses go on coming: what changed just now is under way. */
const watermarkMs = 10_000

/**
 * The direct path of the partners' orders. Nothing is handed over: a partner has been given the id of its order, and the MES would
 * give it another; so what the intake has accepted is delivered, however long that takes, and the receipt stays open until then.
 */
export function partnersDrain(pools: {
  readonly ledger: Pool
  readonly shop: Pool
  readonly mes: Pool
  readonly intake: Pool
}): Drain {
  const { ledger, intake } = pools
  const sides: PartnerSides = {
    ledger,
    shop: (ask) => ask(pools.shop),
    mes: (ask) => ask(pools.mes),
    intake: (ask) => ask(intake),
  }
  return {
    async underWay(epoch) {
      const outbox = await intake.query<{ orders: number }>(
        `SELECT count(*)::int AS orders FROM outbox b JOIN partner_order o ON o.id = b.order_id
         WHERE b.relayed_at IS NULL AND o.path_epoch < $1`,
        [epoch],
      )
      const { accepted, sending, inDoubt } = await countDirect(ledger, 'partners', epoch)
      return { waiting: outbox.rows[0]!.orders + accepted, inHand: sending, inDoubt }
    },
    handOver: () => Promise.resolve(0),
    async verify() {
      const { differences } = await readPartnerBooks(sides, {
        windowMs: dayMs,
        watermarkMs,
        bornHere: true,
      })
      return differences
        .filter(({ waits }) => !waits)
        .map(({ kind, orderId, says }) => `${orderId} ${kind}: ${says}`)
    },
    async counts(flip) {
      const { delivered, settled } = await countSince(ledger, 'partners', flip)
      return {
        finishedDirect: delivered,
        handedOver: 0,
        settledByEvidence: settled,
        stayDirect: 0,
        unsettled: [],
      }
    },
  }
}
