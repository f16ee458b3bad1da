import { readFile } from 'node:fs/promises'

import { StranglerError } from '../../contracts/errors.ts'
import { inTransaction, type Pool } from '../../runtime/postgres.ts'
import type { Command, Outcome } from '../command-line/command.ts'
import { lacksRights, ownerNeeded } from '../command-line/rights.ts'

export interface GuardState {
  readonly installed: boolean
  /** Its trigger fires; false when somebody has disabled it. */
  readonly enabled: boolean
  /** Messages the broker delivered once more, which would each have been a second row of work. */
  readonly droppedRedeliveries: number
  /** Second messages for an order: somebody sent it twice. */
  readonly droppedSecondSends: number
}

export const mesGuard: Command = {
  name: 'mes-guard',
  summary: 'makes the MES itself take each order once (optional, additive, removable)',
  operands: ['<install|remove|status>'],
  options: {},
  settings: ['MES_URL'],
  exits: {
    1: 'status: it has dropped second sends',
    2: "refused: the MES holds an order twice, or MES_URL is not that of its database's owner",
  },
  example: 'strangler mes-guard install',
  async run({ positionals, connections }) {
    const mes = connections.mes()
    const verb = positionals[0]
    const before = await guardState(mes)
    switch (verb) {
      case 'status':
        return outcome(before, before.droppedSecondSends > 0 ? 1 : 0)
      case 'install':
        if (!before.installed) await apply(mes, 'install.sql')
        return outcome(await guardState(mes), 0)
      case 'remove':
        if (before.installed) await apply(mes, 'remove.sql')
        return outcome({ ...before, installed: false, enabled: false }, 0)
      default:
        throw new StranglerError(
          'invalid_argument',
          `expected install, remove or status, got ${verb}`,
        )
    }
  },
}

export async function guardState(mes: Pool): Promise<GuardState> {
  const { rows } = await mes.query<{ installed: boolean; enabled: boolean }>(
    `SELECT to_regclass('strangler.dropped_duplicate') IS NOT NULL AS installed,
       EXISTS (SELECT FROM pg_trigger WHERE tgrelid = to_regclass('public.orders')
         AND tgname = 'strangler_one_row_per_order' AND tgenabled IN ('O', 'A')) AS enabled`,
  )
  if (rows[0]?.installed !== true)
    return { installed: false, enabled: false, droppedRedeliveries: 0, droppedSecondSends: 0 }
  const { rows: dropped } = await mes.query<{ again: number; second: number }>(
    `SELECT count(*) FILTER (WHERE redelivered)::int AS again, count(*) FILTER (WHERE NOT redelivered)::int AS second
     FROM strangler.dropped_duplicate`,
  )
  return {
    installed: true,
    enabled: rows[0].enabled,
    droppedRedeliveries: dropped[0]!.again,
    droppedSecondSends: dropped[0]!.second,
  }
}

async function apply(mes: Pool, file: string): Promise<void> {
  const sql = await readFile(new URL(`../../migrations/mes-guard/${file}`, import.meta.url), 'utf8')
  try {
    await inTransaction(mes, (client) => client.query(sql))
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    const hint = lacksRights(error) ? `; ${ownerNeeded('MES_URL')}` : ''
    throw new StranglerError('refused', `${file}: ${reason}; nothing was changed${hint}`, error)
  }
}

function outcome(state: GuardState, exitCode: 0 | 1): Outcome {
  return {
    exitCode,
    json: state,
    text: state.installed
      ? `${state.enabled ? 'installed: the MES takes each order once' : 'installed, but its trigger is DISABLED: ALTER TABLE public.orders ENABLE TRIGGER strangler_one_row_per_order'}; dropped ${state.droppedRedeliveries} redeliveries of the broker and ${state.droppedSecondSends} second sends`
      : 'not installed: "maybe sent" is settled by looking the order up, and a redelivery of the broker is a second row of work',
  }
}
