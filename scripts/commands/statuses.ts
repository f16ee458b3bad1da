import { StranglerError } from '../../contracts/errors.ts'
import { decideStatus } from '../../delivery/decide-status.ts'
import type { DecidedStatus, StatusDecision } from '../../delivery/decide-status.ts'
import { countPinned, countStatuses, listUnsettled } from '../../delivery/unsettled-statuses.ts'
import type { StatusCount, UnsettledStatus } from '../../delivery/unsettled-statuses.ts'
import type { Pool } from '../../runtime/postgres.ts'
import { columns } from '../command-line/columns.ts'
import type { Command, Invocation, Outcome } from '../command-line/command.ts'
import { formatDuration } from '../command-line/duration.ts'
import { identity } from '../command-line/identity.ts'
import { statusReason } from '../command-line/status-reason.ts'
import { wantedVerb } from '../command-line/wanted-verb.ts'

/** All are counted; so many are listed. */
const listed = 200

const decisions = { accept: 'accepted', drop: 'dropped' } as const satisfies Record<
  string,
  StatusDecision
>

export const statuses: Command = {
  name: 'statuses',
  summary: 'what of the MES waits on its way to the Shop, and why; accepts or drops what is parked',
  operands: ['[list|accept|drop]', '[id]'],
  options: {
    who: { type: 'string', says: 'accept, drop: recorded; default: user@host' },
    why: { type: 'string', says: 'accept, drop: recorded, and required: how you know' },
  },
  settings: ['LEDGER_URL'],
  exits: {
    0: 'listed, and nothing is parked; or accepted, or dropped',
    1: 'list: something is parked: a person must accept or drop it',
    2: 'refused: no such id, it is settled already, there is nothing in it to apply, or --why is missing',
  },
  example: 'strangler statuses accept 4711 --why "the MES took the order back, operator confirmed"',
  async run(invocation) {
    const [word = 'list', id] = invocation.positionals
    const verb = wantedVerb('statuses', word, ['list', 'accept', 'drop'])
    const ledger = invocation.connections.ledger()
    if (verb !== 'list') return decide(ledger, verb, id, invocation)
    if (id === undefined) return list(ledger)
    throw new StranglerError('invalid_argument', `list takes no id, got ${id}`)
  },
}

async function list(ledger: Pool): Promise<Outcome> {
  const counts = await countStatuses(ledger)
  const orders = await countPinned(ledger)
  const events = await listUnsettled(ledger, listed)
  const ages = counts.flatMap(({ state, oldestMs }) =>
    state === 'parked' || oldestMs === undefined ? [] : [oldestMs],
  )
  const oldestMs = ages.length === 0 ? undefined : Math.max(...ages)
  const unsettled = counts
    .filter(({ state }) => state === 'waiting' || state === 'parked')
    .reduce((sum, each) => sum + each.events, 0)
  const listedAll = events.length >= unsettled
  return {
    exitCode: counts.some(({ state }) => state === 'parked') ? 1 : 0,
    json: { orders, counts, oldestMs, events, listedAll },
    text: [
      `orders by the path of their statuses: ${orders.direct} direct, ${orders.legacy} through CRM`,
      `status inbox: ${inWords(counts)}`,
      oldestMs === undefined
        ? 'nothing waits to be applied'
        : `the oldest that is not applied is ${formatDuration(oldestMs)} old`,
      ...(events.length === 0 ? [] : ['', table(events)]),
      ...(listedAll ? [] : [`  and more: the first ${listed} are listed`]),
      ...(events.some(({ state }) => state === 'parked')
        ? ['', '"strangler statuses accept <id>" applies one all the same, "drop <id>" never does']
        : []),
    ].join('\n'),
  }
}

function inWords(counts: readonly StatusCount[]): string {
  if (counts.length === 0) return 'empty'
  return counts.map(({ state, events }) => `${events} ${state}`).join(', ')
}

function table(events: readonly UnsettledStatus[]): string {
  return columns(
    [
      ['id', 'order', 'status', 'price', 'state', 'why', 'tries', 'age'],
      ...events.map((event) => [
        event.id,
        event.orderId,
        event.status ?? '-',
        event.price === undefined ? '-' : `${event.price} ${event.currency ?? ''}`.trimEnd(),
        event.state,
        statusReason(event.reason),
        `${event.tries}`,
        formatDuration(event.ageMs),
      ]),
    ],
    '  ',
  )
}

async function decide(
  ledger: Pool,
  verb: keyof typeof decisions,
  id: string | undefined,
  { text }: Invocation,
): Promise<Outcome> {
  // A bigint of PostgreSQL; one that is longer is no id of ours.
  if (id === undefined || !/^\d{1,18}$/.test(id)) {
    throw new StranglerError(
      'invalid_argument',
      `${verb} expected the id of a status, as "strangler statuses" lists it, got ${id ?? 'nothing'}`,
    )
  }
  const why = text('why')
  if (why === undefined) {
    throw new StranglerError('invalid_argument', '--why expected to say how you know, got nothing')
  }
  const who = text('who') ?? identity()
  const decided = await decideStatus(ledger, { id, decision: decisions[verb], who, why })
  return { exitCode: 0, json: { ...decided, who, why }, text: said(decided, who) }
}

function said({ id, orderId, decision, status, price }: DecidedStatus, who: string): string {
  const what = [status, price].filter((each) => each !== undefined).join(' ') || 'nothing'
  return decision === 'accepted'
    ? `${id} (${what} of ${orderId}) is applied next, whatever the rules say, says ${who}; "strangler order ${orderId}" shows it`
    : `${id} (${what} of ${orderId}) will never be applied, says ${who}`
}
