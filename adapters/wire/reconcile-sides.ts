import { setTimeout as pause } from 'node:timers/promises'

import type { LegacySides } from '../../delivery/reconcile.ts'
import type { StatusPorts } from '../../delivery/redrive-status.ts'
import type { RedrivePorts } from '../../delivery/redrive.ts'
import type { Pool } from '../../runtime/postgres.ts'
import type { Broker } from '../broker/port.ts'
import { bridgeQueue, eventsToCrm, ordersToMes } from './legacy-topology.ts'
import { readMesEvent } from './mes-event.ts'
import { readMesOrderIds, readMesOrders } from './mes-order-pages.ts'
import { findInMes } from './mes-orders.ts'
import { openDecisionSender } from './send-decision.ts'
import type { DecisionSender } from './send-decision.ts'
import { giveBackToCrm, readShopOrders } from './shop-orders.ts'

/** Shop DB and MES, as reconcile asks for them. */
export function legacySides(shop: Pool, mes: Pool): LegacySides {
  return {
    shopPage: (after, limit) => readShopOrders(shop, { after, limit }),
    shopOrders: (ids) => readShopOrders(shop, { ids }),
    mesOrders: (ids) => readMesOrders(mes, ids),
    mesPage: (after, limit, youngerMs) => readMesOrderIds(mes, { after, limit, youngerMs }),
  }
}

/** Proofs that were waited for in vain, one after the other, before the next are only asked for. */
const patience = 3

interface Redriving extends RedrivePorts {
  close(): Promise<void>
}

/** What a redrive does to the legacy. RabbitMQ's statistics are old by seconds, so a proof may have to wait for the next. */
export function redrivePorts(parts: {
  readonly shop: Pool
  readonly mes: Pool
  readonly broker: Pick<Broker, 'mayHold' | 'openSender'>
  readonly bridged: boolean
  readonly proofWithinMs: number
}): Redriving {
  const { broker, bridged, mes, shop } = parts
  const queues = [...(bridged ? [bridgeQueue(ordersToMes.queue)] : []), ordersToMes.queue]
  let decisions: Promise<DecisionSender> | undefined
  const provedEmpty = async (
    asked: readonly string[],
    orderId: string,
    withinMs: number,
  ): Promise<'no' | 'maybe'> => {
    // A queue that was empty before this order was published proves nothing of it.
    const since = performance.now()
    for (const queue of asked) {
      while ((await broker.mayHold(queue, orderId, since)) !== 'no') {
        if (performance.now() > since + withinMs) return 'maybe'
        await pause(500)
      }
    }
    return 'no'
  }
  let vain = 0
  const statuses: StatusPorts = {
    eventsQueue: eventsToCrm.queue,
    async mayBeUnderwayToCrm(orderId) {
      // A CRM that is away leaves every status in its queue: not each of them is waited for.
      const withinMs = vain < patience ? parts.proofWithinMs : 0
      const answer = await provedEmpty(
        [bridgeQueue(eventsToCrm.queue), eventsToCrm.queue],
        orderId,
        withinMs,
      )
      vain = answer === 'no' ? 0 : vain + 1
      return answer
    },
    async now(orderId) {
      const [found] = await readShopOrders(shop, { ids: [orderId] })
      return { shop: found, mes: (await readMesOrders(mes, [orderId])).get(orderId) }
    },
    readEvent: readMesEvent,
  }
  return {
    statuses,
    ordersQueue: ordersToMes.queue,
    mayBeUnderway: (orderId) => provedEmpty(queues, orderId, parts.proofWithinMs),
    isInMes: async (orderId) => (await findInMes(mes, [orderId])).has(orderId),
    async isPastSubmitted(orderId) {
      const [order] = await readShopOrders(shop, { ids: [orderId] })
      return order !== undefined && order.status !== 'SUBMITTED'
    },
    giveBackToCrm: async (orderId) => (await giveBackToCrm(shop, [orderId])).length === 1,
    async sendDecision(decision) {
      decisions ??= openDecisionSender(broker, bridged)
      await (await decisions).send(decision)
    },
    async close() {
      await (await decisions)?.close()
    },
  }
}
