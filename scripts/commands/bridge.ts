import { bridgeStatus, insertBridge, removeBridge } from '../../adapters/bridge/insert-bridge.ts'
import type { BridgeStatus, RemoveProgress } from '../../adapters/bridge/insert-bridge.ts'
import { StranglerError } from '../../contracts/errors.ts'
import type { Command } from '../command-line/command.ts'
import { identity } from '../command-line/identity.ts'
import { wantedVerb } from '../command-line/wanted-verb.ts'

const queues = ['mes.orders', 'crm.events'] as const
type Queue = (typeof queues)[number]
const verbs = ['insert', 'remove', 'status', 'release'] as const
type Verb = (typeof verbs)[number]

export const bridge: Command = {
  name: 'bridge',
  summary:
    'puts our seam into the legacy queues, takes it out, tells how it stands, or releases what it parked',
  operands: ['<insert|remove|status|release>'],
  options: {
    queue: { type: 'string', says: 'mes.orders, crm.events or all; default: all' },
    who: { type: 'string', says: 'recorded with the change; default: user@host' },
  },
  settings: ['LEDGER_URL', 'BROKER_URL', 'AMQP_MANAGEMENT_URL'],
  exits: {
    1: 'bindings are not as they should be',
    2: 'refused: no bridge process runs, or a queue is unknown',
    3: 'the broker did not answer: what only it knows is said to be unknown',
  },
  example: 'strangler bridge insert --queue all',
  async run({ positionals, text, connections, log }) {
    const verb = wantedVerb('bridge', positionals[0]!, verbs)
    const chosen = wantedQueues(text('queue') ?? 'all')
    const ledger = connections.ledger()
    const broker = await connections.broker()
    const who = text('who') ?? identity()
    const acts = {
      insert: (queue) => insertBridge({ broker, ledger, queue, who }),
      remove: (queue) =>
        removeBridge({
          broker,
          ledger,
          queue,
          who,
          onProgress: (progress: RemoveProgress) => log.info('draining', { queue, ...progress }),
        }),
      status: (queue) => bridgeStatus({ broker, ledger, queue }),
      release: async (queue) => {
        // Orders go by evidence again, everything else at once: the bridge decides, as for any held message.
        const { rowCount } = await ledger.query(
          `UPDATE bridge_inbox SET state = 'held', reason = $2, settled_at = NULL WHERE queue = $1 AND state = 'parked'`,
          [queue, `given back by ${who}`],
        )
        log.info('released', { queue, messages: rowCount ?? 0 })
        return bridgeStatus({ broker, ledger, queue })
      },
    } as const satisfies Record<Verb, (queue: Queue) => Promise<BridgeStatus>>
    const bridges: BridgeStatus[] = []
    for (const queue of chosen) bridges.push(await acts[verb](queue))
    return {
      exitCode: exitCodeOf(bridges),
      json: { verb, bridges },
      text: bridges.map(forPeople).join('\n'),
    }
  },
}

function exitCodeOf(bridges: readonly BridgeStatus[]): 0 | 1 | 3 {
  if (bridges.some(({ drift }) => drift !== 'unknown' && drift.length > 0)) return 1
  return bridges.some(({ unread }) => unread !== undefined) ? 3 : 0
}

function forPeople(status: BridgeStatus): string {
  const { messages, depth, legacyDepth, drift, consumer, unread } = status
  const parts = [`${status.queue}: ${status.state}`, `${status.topologyChanges} topology changes`]
  if (status.state !== 'absent') {
    parts.push(
      consumer === 'unknown'
        ? 'whether a bridge process is attached is unknown'
        : consumer
          ? 'a bridge process is attached'
          : 'NO bridge process is attached: start one',
      depth === 'unknown'
        ? 'how many wait in front is unknown'
        : `${depth?.ready ?? 0} waiting in front`,
      `${messages.open} in hand, ${messages.held} held, ${messages.parked} parked`,
    )
  }
  if (legacyDepth === undefined) parts.push('there is no legacy queue')
  else
    parts.push(
      legacyDepth === 'unknown'
        ? 'how many wait behind is unknown'
        : `${legacyDepth.ready} waiting behind`,
    )
  if (unread !== undefined) parts.push(`THE BROKER WAS NOT READ: ${unread}`)
  else if (drift === 'unknown') parts.push('bindings not read: set AMQP_MANAGEMENT_URL')
  else if (drift.length > 0) parts.push(`BINDINGS DIFFER: ${drift.join('; ')}`)
  return parts.join(', ')
}

function wantedQueues(word: string): readonly Queue[] {
  if (word === 'all') return queues
  const found = queues.filter((queue) => queue === word)
  if (found.length > 0) return found
  throw new StranglerError(
    'invalid_argument',
    `--queue expected to be ${queues.join(', ')} or all, got ${word}`,
  )
}
