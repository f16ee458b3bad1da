import { formatShare } from '../../contracts/path-share.ts'
import { countUnsettled } from '../../delivery/unsettled-statuses.ts'
import type { StatusCount } from '../../delivery/unsettled-statuses.ts'
import { overall, readGates } from '../../flags/gates.ts'
import type { JudgedGate } from '../../flags/gates.ts'
import { phaseStatus } from '../../flags/phase-journal.ts'
import type { PhaseStatus } from '../../flags/phase-journal.ts'
import { findPhase, phases } from '../../flags/phases.ts'
import { readReplicas } from '../../flags/replicas.ts'
import type { Replica } from '../../flags/replicas.ts'
import { readWish } from '../../flags/wish.ts'
import type { StoredWish } from '../../flags/wish.ts'
import type { Pool } from '../../runtime/postgres.ts'
import { columns } from '../command-line/columns.ts'
import type { Command } from '../command-line/command.ts'
import { formatDuration } from '../command-line/duration.ts'
import { gateLines } from '../gates/gate-lines.ts'

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

interface Standing extends PhaseStatus {
  readonly wish: StoredWish | undefined
  readonly gates: readonly JudgedGate[]
}

export const status: Command = {
  name: 'status',
  summary: 'what is in force, and how many orders are where',
  operands: [],
  options: {},
  settings: ['LEDGER_URL', 'SHOP_URL', 'INTAKE_URL'],
  exits: {
    0: 'read',
    1: 'a route is not what the journal says: the next verb settles it',
    3: 'a database does not answer',
  },
  example: 'strangler status --json',
  async run({ connections }) {
    const ledger = connections.ledger()
    const seams = {
      ledger,
      shop: connections.isSet('SHOP_URL') ? connections.shop() : undefined,
      intake: connections.isSet('INTAKE_URL') ? connections.intake() : undefined,
    }
    const standing: Standing[] = []
    for (const { id, seam } of phases) {
      const found = await phaseStatus({ ledger, seam: seams[seam], phase: id })
      // Where there is no intake, there is no such phase.
      if (seam === 'intake' && seams.intake === undefined && found.epoch === 0) continue
      standing.push({
        ...found,
        wish: await readWish(ledger, id),
        gates: await readGates(ledger, id),
      })
    }
    const orders = await countOrders(ledger)
    const bridges = await readBridges(ledger)
    const replicas = await readReplicas(ledger)
    const statusInbox = await countUnsettled(ledger)
    const unread = standing.some(
      ({ phase, route }) => route === 'unreadable' && seams[findPhase(phase).seam] !== undefined,
    )
    return {
      exitCode: unread ? 3 : standing.some(disagrees) ? 1 : 0,
      json: { phases: standing, orders, bridges, statusInbox, replicas },
      text: [
        ...standing.flatMap((phase) => phaseLines(phase, replicas)),
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

function phaseLines(phase: Standing, replicas: readonly Replica[]): string[] {
  const { last, route, pin, wish, gates } = phase
  const parts = [`${phase.phase}: ${formatShare(phase.share)} in force, epoch ${phase.epoch}`]
  if (phase.step !== 'complete') parts.push(`the last flip is only "${phase.step}"`)
  if (last?.verb === 'rollback' && phase.rollback !== 'verified')
    parts.push('the rollback has no receipt yet')
  if (last !== undefined) {
    parts.push(`${last.verb} by ${last.who} at ${last.at.toISOString()}: "${last.why}"`)
  }
  if (route === 'unreadable') parts.push('its route was not read')
  else if (disagrees(phase)) {
    const says = route === 'absent' ? 'no row' : `${formatShare(route.share)}, epoch ${route.epoch}`
    parts.push(`the route says ${says}`)
  } else if (route !== 'absent' && route.tokens > 0) {
    const of = phase.partner === undefined ? '' : ` of ${phase.partner}`
    parts.push(`${route.tokens} orders${of} more are admitted, each by a token`)
  }
  const lines = [parts.join('; ')]
  if (wish !== undefined) lines.push(`  ${wishLine(wish)}`)
  if (pin !== undefined)
    lines.push(
      `  pinned by "${pin.kind}" of ${pin.who} at ${pin.at.toISOString()}: "${pin.why}"; strangler resume ${phase.phase}`,
    )
  if (gates.some(({ ageMs }) => ageMs !== undefined)) {
    const open = gates.filter(({ verdict }) => verdict !== 'PASS')
    const age = Math.max(...gates.map(({ ageMs }) => ageMs ?? 0))
    lines.push(
      `  gates: ${overall(gates)}, ${gates.length - open.length} of ${gates.length} pass; judged within ${formatDuration(age)}`,
      ...open.flatMap(gateLines).map((line) => `    ${line}`),
    )
  }
  const living = replicas.filter(({ lapsed }) => !lapsed)
  const behind = living.filter(({ epochs }) => (epochs[phase.phase] ?? 0) < phase.epoch)
  if (living.length > 0)
    lines.push(
      `  replicas: ${living.length - behind.length} of ${living.length} on epoch ${phase.epoch}` +
        behind.map(({ kind, pid }) => `; ${kind} ${pid} is behind`).join(''),
    )
  return lines
}

function wishLine({ share, reason, source, who, ageMs }: StoredWish): string {
  const age = source === 'unleash' ? `, read ${formatDuration(ageMs)} ago` : ` by ${who}`
  return share === undefined
    ? `wanted: UNKNOWN (${reason ?? 'no reason given'}): what is in force stays${age}`
    : `wanted: ${formatShare(share)}${age}`
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
