import type { Pool } from '../../runtime/postgres.ts'
import { columns } from '../command-line/columns.ts'
import type { Command } from '../command-line/command.ts'
import { parseDuration } from '../command-line/duration.ts'

interface LateWrite {
  readonly orderId: string
  readonly column: string
  readonly old: string | null
  readonly new: string | null
  /** The new value is in the row: the login is none of CRM's, so it was not stopped. */
  readonly kept: boolean
  readonly role: string
  readonly app: string | null
  readonly addr: string | null
  readonly at: Date
}

interface RoleCount {
  readonly role: string
  readonly stopped: number
  readonly wentThrough: number
}

/** All are counted; so many are listed. */
const listed = 1000
const window = `($1::float8 IS NULL OR at >= clock_timestamp() - $1::float8 * interval '1 millisecond')`

export const lateWrites: Command = {
  name: 'late-writes',
  summary: 'who else wrote statuses and prices of orders on the direct path, and whether it stuck',
  operands: [],
  options: {
    since: { type: 'string', value: 'duration', says: 'such as 10m, 2h or 7d; default: all' },
  },
  settings: ['SHOP_URL'],
  exits: {
    0: 'none: whoever wrote before is silent',
    1: 'there are some: stopped ones of CRM, or ones of other logins that went through',
    3: 'the Shop DB does not answer',
  },
  example: 'strangler late-writes --since 1d',
  async run({ text, connections }) {
    const since = text('since')
    const sinceMs = since === undefined ? null : parseDuration('since', since)
    const shop = connections.shop()
    const roles = await countByRole(shop, sinceMs)
    const writes = roles.length === 0 ? [] : await readWrites(shop, sinceMs)
    const stopped = sum(roles.map((role) => role.stopped))
    const wentThrough = sum(roles.map((role) => role.wentThrough))
    return {
      exitCode: roles.length === 0 ? 0 : 1,
      json: {
        sinceMs,
        stopped,
        wentThrough,
        roles,
        writes,
        listedAll: writes.length === stopped + wentThrough,
      },
      text: forPeople({ stopped, wentThrough, roles, writes }),
    }
  },
}

async function countByRole(shop: Pool, sinceMs: number | null): Promise<RoleCount[]> {
  const { rows } = await shop.query<RoleCount>(
    `SELECT role::text, (count(*) FILTER (WHERE NOT kept))::int AS stopped, (count(*) FILTER (WHERE kept))::int AS "wentThrough"
     FROM strangler.late_writes WHERE ${window} GROUP BY role ORDER BY count(*) DESC, role`,
    [sinceMs],
  )
  return rows
}

async function readWrites(shop: Pool, sinceMs: number | null): Promise<LateWrite[]> {
  const { rows } = await shop.query<LateWrite>(
    `SELECT order_id::text AS "orderId", col AS column, old, new, kept, role::text, app, host(addr) AS addr, at
     FROM strangler.late_writes WHERE ${window} ORDER BY id DESC LIMIT $2`,
    [sinceMs, listed],
  )
  return rows
}

function forPeople(found: {
  readonly stopped: number
  readonly wentThrough: number
  readonly roles: readonly RoleCount[]
  readonly writes: readonly LateWrite[]
}): string {
  const { stopped, wentThrough, roles, writes } = found
  if (roles.length === 0) return 'no late write'
  const lines = [
    `${stopped} late writes stopped at the fence, ${wentThrough} went through`,
    columns(
      [
        ['role', 'stopped', 'went through'],
        ...roles.map((role) => [role.role, `${role.stopped}`, `${role.wentThrough}`]),
      ],
      '  ',
    ),
    '',
    columns(
      [
        ['order', 'column', 'old', 'new', '', 'role', 'application', 'from', 'at'],
        ...writes.map((write) => [
          write.orderId,
          write.column,
          write.old ?? 'none',
          write.new ?? 'none',
          write.kept ? 'went through' : 'stopped',
          write.role,
          write.app ?? '-',
          write.addr ?? 'a socket',
          write.at.toISOString(),
        ]),
      ],
      '  ',
    ),
  ]
  if (writes.length < stopped + wentThrough)
    lines.push(`  and more: the latest ${listed} are listed`)
  if (wentThrough > 0) {
    lines.push(
      '',
      'What went through was written by a login that is not in strangler.fenced_writer. Ask who that is; if it is CRM:',
      "  INSERT INTO strangler.fenced_writer VALUES ('<the login>')",
    )
  }
  return lines.join('\n')
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0)
}
