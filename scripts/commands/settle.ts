import { StranglerError } from '../../contracts/errors.ts'
import { inTransaction } from '../../runtime/postgres.ts'
import type { Command } from '../command-line/command.ts'
import { identity } from '../command-line/identity.ts'

const answers = ['delivered', 'absent'] as const

/** The last rung of the ladder: a person who has looked into the MES says what no evidence could. */
export const settle: Command = {
  name: 'settle',
  summary: 'says of an order in doubt whether the MES has it, where no evidence can',
  operands: ['<order>'],
  options: {
    as: {
      type: 'string',
      value: 'answer',
      says: 'delivered (the MES has it) or absent (send it again)',
    },
    who: { type: 'string', says: 'recorded; default: user@host' },
    why: { type: 'string', says: 'recorded, and required: how you know' },
  },
  settings: ['LEDGER_URL'],
  exits: { 2: 'refused: the order is not in doubt, or --as or --why is missing' },
  example:
    'strangler settle 6f0c3a1e-... --as absent --why "searched the MES by number and by client"',
  async run({ positionals, text, connections }) {
    const orderId = positionals[0]!
    const answer = answers.find((each) => each === text('as'))
    if (answer === undefined)
      throw new StranglerError(
        'invalid_argument',
        `--as expected to be ${answers.join(' or ')}, got ${text('as') ?? 'nothing'}`,
      )
    const why = text('why')
    if (why === undefined)
      throw new StranglerError(
        'invalid_argument',
        '--why expected to say how you know, got nothing',
      )
    const who = text('who') ?? identity()
    const change =
      answer === 'delivered'
        ? `state = 'delivered', delivered_at = clock_timestamp()`
        : `state = 'accepted', gen = gen + 1, owner_id = NULL, sender = NULL, doubt_at = NULL, rung_at = '-infinity', next_attempt_at = clock_timestamp()`
    const gen = await inTransaction(connections.ledger(), async (client) => {
      const { rows } = await client.query<{ gen: number }>(
        `UPDATE order_ledger SET ${change} WHERE order_id = $1 AND state = 'in_doubt' AND path = 'direct' RETURNING gen`,
        [orderId],
      )
      if (rows[0] === undefined) return undefined
      await client.query(
        `INSERT INTO order_event (order_id, hop, kind, actor, detail) VALUES ($1, 'in doubt', 'note', $2, $3)`,
        [orderId, who, JSON.stringify({ settled: answer, evidence: why, gen: rows[0].gen })],
      )
      return rows[0].gen
    })
    if (gen === undefined)
      throw new StranglerError(
        'refused',
        `${orderId} is not in doubt: strangler order ${orderId} says what it is`,
      )
    return {
      exitCode: 0,
      json: { orderId, settled: answer, gen, who, why },
      text:
        answer === 'delivered'
          ? `${orderId} is delivered, says ${who}`
          : `${orderId} will be sent again, says ${who}`,
    }
  },
}
