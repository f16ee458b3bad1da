import type { Client, Pool } from '../runtime/postgres.ts'
import { inTransaction } from '../runtime/postgres.ts'
import { keysToMes } from './compare-order.ts'
import type { Difference, Remedy } from './difference.ts'
import { redriveStatus } from './redrive-status.ts'
import type { StatusPorts, StatusRedriven } from './redrive-status.ts'

/** What a remedy needs of the world outside the ledger. */
export interface RedrivePorts {
  /** The legacy queue whose bridge keeps a second message of an order from the MES. */
  readonly ordersQueue: string
  /** 'no' only on proof that no queue on the way to the MES holds a message of the order. */
  mayBeUnderway(orderId: string): Promise<'no' | 'maybe'>
  /** True when the MES has the order; asked after the queues, since what leaves a queue stands in the MES before. */
  isInMes(orderId: string): Promise<boolean>
  /** True when the Shop says that the order went on after its submit: then the MES had it, whatever it has now. */
  isPastSubmitted(orderId: string): Promise<boolean>
  /** True when the order was claimed and is CRM's to take again. */
  giveBackToCrm(orderId: string): Promise<boolean>
  /** Confirmed by the broker when it resolves. */
  sendDecision(decision: {
    orderId: string
    source: string
    status: 'MANUFACTURING_APPROVED' | 'CLOSED'
  }): Promise<void>
  readonly statuses: StatusPorts
}

export interface Redriven {
  readonly orderId: string
  readonly act: Remedy['act']
  /** done; or why it was left alone. */
  readonly outcome:
    | StatusRedriven
    | 'the MES has it'
    | 'the MES had it'
    | 'refused: without its bridge inserted nothing keeps the second message of a slow CRM from the MES'
}

/**
 * Carries out one remedy. It is recorded in the ledger first, with its evidence, so that a crash leaves an order that the
 * next run finds again, never one that was sent again without a trace.
 * What the MES once had it may have archived, and that is left alone, but for `lost`: a person's word that it is missing there.
 */
export async function redrive(
  ledger: Pool,
  ports: RedrivePorts,
  difference: Difference & { readonly remedy: Remedy },
  who: string,
  lost = false,
): Promise<Redriven> {
  const { orderId, remedy, says } = difference
  const result = (outcome: Redriven['outcome']): Redriven => ({ orderId, act: remedy.act, outcome })
  const entry = { orderId, who, act: remedy.act, says }

  if (remedy.act === 'tell the Shop' || remedy.act === 'tell CRM again')
    return result(await redriveStatus(ledger, ports.statuses, { orderId, remedy, says, who }))

  const hadIt = async (): Promise<boolean> =>
    !lost && ((await ports.isPastSubmitted(orderId)) || (await mesTold(ledger, orderId)))

  if (remedy.act === 'ring again') {
    if (await hadIt()) return result('the MES had it')
    const changed = await change(ledger, entry, 'accepted, no courier held it', (client) =>
      client.query(
        `UPDATE order_ledger SET rung_at = '-infinity', next_attempt_at = clock_timestamp()
         WHERE order_id = $1 AND gen = $2 AND state = 'accepted'`,
        [orderId, remedy.gen],
      ),
    )
    return result(changed ? 'done' : 'changed meanwhile')
  }

  if (remedy.act === 'decide again') {
    // The MES takes a decision once: needs no proof.
    const { source, status } = remedy
    await change(ledger, entry, `the MES had not taken ${status}`, undefined)
    await ports.sendDecision({ orderId, source, status })
    return result('done')
  }

  if ((await ports.mayBeUnderway(orderId)) !== 'no') return result('may be under way')
  // What has left our queue stands here before; then it is on its way into the next.
  if (await passesBridge(ledger, orderId)) return result('may be under way')
  if (await ports.isInMes(orderId)) return result('the MES has it')
  if (await hadIt()) return result('the MES had it')
  const evidence = 'no queue held it, then the MES did not have it'

  if (remedy.act === 'send again') {
    const changed = await change(ledger, entry, evidence, (client) =>
      client.query(
        `UPDATE order_ledger SET state = 'accepted', gen = gen + 1, owner_id = NULL, sender = NULL, dead_reason = NULL,
           sending_at = NULL, doubt_at = NULL, delivered_at = NULL, rung_at = '-infinity', next_attempt_at = clock_timestamp()
         -- A row that no message could be made of has nothing to send.
         WHERE order_id = $1 AND gen = $2 AND state = $3 AND path = 'direct' AND octet_length(body) > 0`,
        [orderId, remedy.gen, remedy.from],
      ),
    )
    return result(changed ? 'done' : 'changed meanwhile')
  }

  if (!(await bridgeIsInserted(ledger, ports.ordersQueue))) {
    return result(
      'refused: without its bridge inserted nothing keeps the second message of a slow CRM from the MES',
    )
  }
  if (remedy.act === 'forward again') {
    const changed = await change(ledger, entry, evidence, async (client) => {
      const held = await client.query(
        `UPDATE bridge_inbox SET state = 'held', reason = 'lost behind the bridge', settled_at = NULL
         WHERE id = (SELECT max(id) FROM bridge_inbox WHERE queue = $1 AND order_id = $2 AND routing_key = 'order.submitted'
           AND state = 'forwarded')`,
        [ports.ordersQueue, orderId],
      )
      return held.rowCount === 1 ? waitAgain(client, orderId) : held
    })
    return result(changed ? 'done' : 'changed meanwhile')
  }

  const changed = await change(ledger, entry, evidence, async (client) => {
    // Its message came meanwhile: CRM's next one would be taken for a repetition.
    const { rowCount } = await client.query(
      `SELECT FROM bridge_inbox WHERE order_id = $1 AND routing_key = 'order.submitted' LIMIT 1`,
      [orderId],
    )
    return rowCount === 0 ? waitAgain(client, orderId) : { rowCount: 0 }
  })
  if (!changed) return result('changed meanwhile')
  return result((await ports.giveBackToCrm(orderId)) ? 'done' : 'changed meanwhile')
}

/** A legacy order is under way again, in its next generation. */
function waitAgain(client: Client, orderId: string): Promise<{ rowCount: number | null }> {
  return client.query(
    `UPDATE order_ledger SET gen = gen + 1, state = 'accepted', delivered_at = NULL, rung_at = clock_timestamp()
     WHERE order_id = $1 AND path = 'legacy' AND state IN ('accepted', 'delivered')`,
    [orderId],
  )
}

async function bridgeIsInserted(ledger: Pool, queue: string): Promise<boolean> {
  const { rowCount } = await ledger.query(
    `SELECT FROM bridge WHERE queue = $1 AND state = 'inserted'`,
    [queue],
  )
  return rowCount === 1
}

/** The change and its record, in one transaction. False, and no record, when the row is not any more what it was. */
async function change(
  ledger: Pool,
  entry: { orderId: string; who: string; act: string; says: string },
  evidence: string,
  update: ((client: Client) => Promise<{ rowCount: number | null }>) | undefined,
): Promise<boolean> {
  return inTransaction(ledger, async (client) => {
    if (update !== undefined && (await update(client)).rowCount !== 1) {
      await client.query('ROLLBACK')
      return false
    }
    await client.query(
      `INSERT INTO order_event (order_id, hop, kind, actor, detail) VALUES ($1, 'redrive', 'note', $2, $3)`,
      [entry.orderId, entry.who, JSON.stringify({ act: entry.act, found: entry.says, evidence })],
    )
    return true
  })
}

async function mesTold(ledger: Pool, orderId: string): Promise<boolean> {
  const { rowCount } = await ledger.query(
    `SELECT FROM bridge_inbox WHERE order_id = $1 AND routing_key <> ALL($2::text[]) LIMIT 1`,
    [orderId, keysToMes],
  )
  return rowCount !== 0
}

async function passesBridge(ledger: Pool, orderId: string): Promise<boolean> {
  const { rowCount } = await ledger.query(
    `SELECT FROM bridge_inbox WHERE order_id = $1 AND routing_key = 'order.submitted'
     AND (state IN ('received', 'held') OR settled_at > clock_timestamp() - interval '10 s') LIMIT 1`,
    [orderId],
  )
  return rowCount !== 0
}
