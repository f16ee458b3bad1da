import { StranglerError } from '../../contracts/errors.ts'
import { formatShare } from '../../contracts/path-share.ts'
import { readHandOvers } from '../../delivery/order-timeline.ts'
import type { HandedOver } from '../../delivery/order-timeline.ts'
import type { PhaseId } from '../../flags/phases.ts'
import type { Pool } from '../../runtime/postgres.ts'
import type { Command } from '../command-line/command.ts'
import { handOverLine } from '../command-line/hand-over-line.ts'

interface Decision {
  readonly phase: PhaseId
  readonly path: string
  readonly epoch: number
  readonly reason: Readonly<Record<string, unknown>>
  /** Who moved the phase to the epoch it was decided in; undefined: nobody had. */
  readonly by: { readonly who: string; readonly why: string; readonly at: Date } | undefined
  /** Of a counted step: how many orders that epoch admitted beyond the share, and whose. */
  readonly counted: { readonly tokens: number; readonly partner: string | null } | undefined
}

export const why: Command = {
  name: 'why',
  summary: 'why an order went the way it did: the rule, the epoch, and who set it in force',
  operands: ['<order>'],
  options: {},
  settings: ['LEDGER_URL'],
  exits: { 2: 'the ledger does not know the order' },
  example: 'strangler why 6f0c3a1e-8a52-4a3f-9d5c-0f4a7b1c2d3e',
  async run({ positionals, connections }) {
    const orderId = positionals[0]!
    const ledger = connections.ledger()
    const { decisions, handOvers } = await readDecisions(ledger, orderId)
    return {
      exitCode: 0,
      json: { orderId, decisions, handOvers },
      text: [...decisions.flatMap(decisionLines), ...handOvers.map(handOverLine)].join('\n'),
    }
  },
}

async function readDecisions(
  ledger: Pool,
  orderId: string,
): Promise<{ decisions: Decision[]; handOvers: HandedOver[] }> {
  const { rows } = await ledger.query<{
    phase: PhaseId
    path: string
    epoch: number
    reason: Record<string, unknown> | null
    who: string | null
    why: string
    at: Date
    tokens: number | null
    partner: string | null
  }>(
    `SELECT d.phase, d.path, d.epoch, d.reason, j.who, j.why, j.at, (j.detail ->> 'tokens')::int AS tokens, j.detail ->> 'partner' AS partner
     FROM order_ledger l
     CROSS JOIN LATERAL (VALUES
       (1, CASE l.origin WHEN 'shop' THEN 'orders-direct' ELSE 'partner-intake' END, l.path, l.path_epoch, l.path_reason),
       (2, 'statuses-direct', l.status_path, l.status_epoch, l.status_reason)) AS d(n, phase, path, epoch, reason)
     -- The epoch of a repin is the order's own.
     LEFT JOIN phase_journal j ON j.phase = d.phase AND j.epoch = d.epoch AND j.step = 'in force' AND d.reason ->> 'rule' <> 'repinned'
     WHERE l.order_id = $1 AND d.path IS NOT NULL ORDER BY d.n`,
    [orderId],
  )
  if (rows.length === 0) throw new StranglerError('not_found', `the ledger has no order ${orderId}`)
  return {
    decisions: rows.map(({ who, why: reasonOfFlip, at, reason, tokens, partner, ...row }) => ({
      ...row,
      reason: reason ?? {},
      by: who === null ? undefined : { who, why: reasonOfFlip, at },
      counted: tokens === null ? undefined : { tokens, partner },
    })),
    handOvers: await readHandOvers(ledger, orderId),
  }
}

function decisionLines({ phase, path, epoch, reason, by, counted }: Decision): string[] {
  const what = phase === 'statuses-direct' ? 'its statuses' : 'the order'
  const { rule, share, bucket } = reason
  const numbers =
    typeof share === 'number' && typeof bucket === 'number'
      ? `: its bucket ${bucket} is ${bucket < share ? 'below' : 'not below'} the share of ${formatShare(share)} (${share})`
      : ''
  if (rule === 'repinned') return [`${what}: ${path}, by a repin, epoch ${epoch}`]
  const of = counted?.partner ? ` of ${counted.partner}` : ''
  const token =
    rule === 'token' && counted !== undefined
      ? `, one of exactly ${counted.tokens} orders${of}`
      : ''
  return [
    `${what}: ${path}, by the rule "${typeof rule === 'string' ? rule : 'none recorded'}"${token}${numbers}`,
    by === undefined
      ? `  epoch ${epoch}: nobody had moved ${phase}`
      : `  epoch ${epoch} of ${phase}, in force since ${by.at.toISOString()} by ${by.who}: "${by.why}"`,
  ]
}
