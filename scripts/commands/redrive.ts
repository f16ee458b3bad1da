import { legacySides, redrivePorts } from '../../adapters/wire/reconcile-sides.ts'
import { StranglerError } from '../../contracts/errors.ts'
import type { Remedy } from '../../delivery/difference.ts'
import type { OrderSides } from '../../delivery/order-sides.ts'
import { readSides } from '../../delivery/read-sides.ts'
import { redrive as carryOut } from '../../delivery/redrive.ts'
import { noteEvent } from '../../flags/timeline.ts'
import { actOptions, readAct } from '../command-line/act.ts'
import type { Command } from '../command-line/command.ts'

/** `reconcile --redrive` leaves alone what the MES once had: it may be archived there. Here a person says that it is lost. */
export const redrive: Command = {
  name: 'redrive',
  summary: 'sends one order to the MES again that is missing there, on the word of a person',
  operands: ['<order>'],
  options: actOptions,
  settings: ['LEDGER_URL', 'SHOP_URL', 'MES_URL', 'BROKER_URL', 'AMQP_MANAGEMENT_URL'],
  exits: {
    0: 'it is on its way again; "strangler order <id>" follows it',
    2: 'refused: the MES has it, or may get it still, or nothing was ever sent that could be sent again',
  },
  example: 'strangler redrive 6f0c3a1e-... --why "deleted in the MES by mistake"',
  async run(invocation) {
    const { positionals, connections } = invocation
    const orderId = positionals[0]!
    const { who, why } = readAct(invocation)
    const [ledger, shop, mes] = [connections.ledger(), connections.shop(), connections.mes()]
    const legacy = legacySides(shop, mes)
    const [sides] = await readSides(
      { ledger, legacy },
      [orderId],
      await legacy.shopOrders([orderId]),
    )
    const remedy = remedyOf(orderId, sides)
    const { rowCount } = await ledger.query(
      `SELECT FROM bridge WHERE queue = 'mes.orders' AND state <> 'absent'`,
    )
    const ports = redrivePorts({
      shop,
      mes,
      broker: await connections.broker(),
      bridged: rowCount === 1,
      proofWithinMs: 20_000,
    })
    try {
      const difference = {
        kind: 'lost' as const,
        orderId,
        says: why,
        toward: 'MES' as const,
        waits: false,
        remedy,
      }
      const { outcome, act } = await carryOut(ledger, ports, difference, who, true)
      if (outcome !== 'done') throw new StranglerError('refused', `${orderId}: ${outcome}`)
      await noteEvent(ledger, {
        phase: null,
        kind: 'redrive',
        who,
        says: `${orderId}, ${act}: ${why}`,
        detail: { orderId },
      })
      return {
        exitCode: 0,
        json: { orderId, act, outcome, who, why },
        text: `${orderId} is on its way again (${act}); strangler order ${orderId} follows it`,
      }
    } finally {
      await ports.close()
    }
  },
}

function remedyOf(orderId: string, sides: OrderSides | undefined): Remedy {
  if (sides?.ledger === undefined)
    throw new StranglerError('not_found', `the ledger has no order ${orderId}`)
  if (sides.mes !== undefined) throw new StranglerError('refused', `the MES has ${orderId}`)
  const { path, state, gen } = sides.ledger
  if (path === 'legacy') return { act: 'forward again' }
  switch (state) {
    case 'delivered':
    case 'dead':
      return { act: 'send again', gen, from: state }
    case 'accepted':
      return { act: 'ring again', gen }
    case 'sending':
    case 'in_doubt':
    case 'cancelled':
      throw new StranglerError(
        'refused',
        `${orderId} is ${state}: strangler order ${orderId} says what follows`,
      )
    default:
      return state satisfies never
  }
}
