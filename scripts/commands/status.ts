import { formatShare } from '../../contracts/path-share.ts'
import { countUnsettled } from '../../delivery/unsettled-statuses.ts'
import type { StatusCount } from '../../delivery/unsettled-statuses.ts'
import { phaseStatus } from '../../flags/phase-journal.ts'
import type { PhaseStatus } from '../../flags/phase-journal.ts'
import { phases } from '../../flags/phases.ts'
import type { Pool } from '../../runtime/postgres.ts'
import { columns } from '../command-line/columns.ts'
import type { Command } from '../command-line/command.ts'
import { formatDuration } from '../command-line/duration.ts'

interface Count {
  readonly path: string
  readonly state: string
  readonly orders: number
  readonly oldestSeconds: number | null
}

interface Bridge {
  readonly queue: string
  readonly state: string
  readonly parked: number
}

export const status: Command = {
  name: 'status',
  summary: 'what is in force, and how many orders are where',
  operands: [],
  options: {},
  settings: ['LEDGER_URL', 'SHOP_URL'],
  exits: {
    0: 'read',
    1: 'a route is not what the journal says: the next verb settles it',
    3: 'the ledger or the Shop DB does not answer',
  },
  example: 'strangler status --json',
  async run({ connections }) {
    const ledger = connections.ledger()
    const shop = connections.isSet('SHOP_URL') ? connections.shop() : undefined
    const standing: PhaseStatus[] = []
    for (const { id, seam } of phases) {
      standing.push(await phaseStatus({ ledger, seam: seam === 'shop' ? shop : ledger, phase: id }))
    }
    const orders = await countOrders(ledger)
    const bridges = await readBridges(ledger)
    const statusInbox = await countUnsettled(ledger)
    const unread = shop !== undefined && standing.some(({ route }) => route === 'unreadable')
    return {
      exitCode: unread ? 3 : standing.some(disagrees) ? 1 : 0,
      json: { phases: standing, orders, bridges, statusInbox },
      text: [
        ...standing.map(phaseLine),
        ...bridges.map(
          ({ queue, state, parked }) =>
            `bridge ${queue}: ${state}${parked === 0 ? '' : `, ${parked} messages parked`}`,
        ),
        statusLine(statusInbox),
        '',
        orders.length === 0
          ? 'no orders yet'
          : columns([
              ['path', 'state', 'orders', 'oldest'],
              ...orders.map(({ path, state, orders: count, oldestSeconds }) => [
                path,
                state,
                `${count}`,
                oldestSeconds === null ? '-' : `${oldestSeconds.toFixed(0)} s`,
              ]),
            ]),
      ].join('\n'),
    }
  },
}

function disagrees({ epoch, share, route }: PhaseStatus): boolean {
  if (route === 'unreadable') return false
  if (route === 'absent') return share !== 0
  return route.epoch !== epoch || route.share !== share
}

function phaseLine(phase: PhaseStatus): string {
  const { last, route } = phase
  const parts = [`${phase.phase}: ${formatShare(phase.share)} in force, epoch ${phase.epoch}`]
  if (phase.step !== 'complete') parts.push(`the last flip is only "${phase.step}"`)
  if (last !== undefined) {
    parts.push(`${last.verb} by ${last.who} at ${last.at.toISOString()}: "${last.why}"`)
  }
  if (route === 'unreadable') parts.push('the Shop DB was not read')
  else if (disagrees(phase)) {
    const says = route === 'absent' ? 'no row' : `${formatShare(route.share)}, epoch ${route.epoch}`
    parts.push(`the route says ${says}`)
  }
  return parts.join('; ')
}

function statusLine(counts: readonly StatusCount[]): string {
  if (counts.length === 0) return 'status inbox: nothing waits'
  return `status inbox: ${counts
    .map(({ state, events, oldestMs }) => {
      const age = oldestMs === undefined ? '' : ` (the oldest for ${formatDuration(oldestMs)})`
      return `${events} ${state}${age}`
    })
    .join(', ')}`
}

async function countOrders(ledger: Pool): Promise<Count[]> {
  const { rows } = await ledger.query<Count>(
    `SELECT path, state, count(*)::int AS orders,
       CASE WHEN state NOT IN ('delivered', 'cancelled')
         THEN extract(epoch FROM clock_timestamp() - min(accepted_at))::float8 END AS "oldestSeconds"
     FROM order_ledger GROUP BY path, state ORDER BY path, state`,
  )
  return rows
}

async function readBridges(ledger: Pool): Promise<Bridge[]> {
  const { rows } = await ledger.query<Bridge>(
    `SELECT b.queue, b.state, (SELECT count(*)::int FROM bridge_inbox i WHERE i.queue = b.queue AND i.state = 'parked') AS parked
     FROM bridge b ORDER BY b.queue`,
  )
  return rows
}
