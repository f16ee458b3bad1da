import { setTimeout as pause } from 'node:timers/promises'

import { StranglerError } from '../../contracts/errors.ts'
import { isConnectionError } from '../../runtime/postgres.ts'
import type { Command, Outcome } from '../command-line/command.ts'
import { parseDuration } from '../command-line/duration.ts'
import { status } from './status.ts'

const clearScreen = '\u001B[H\u001B[2J'

export const watch: Command = {
  name: 'watch',
  summary: 'what "status" says, over and over, until Ctrl-C',
  operands: [],
  options: {
    every: { type: 'string', value: 'duration', says: 'default: 1s' },
    rounds: { type: 'string', value: 'count', says: 'end after so many; default: never' },
  },
  settings: status.settings,
  ...(status.exits !== undefined && { exits: status.exits }),
  example: 'strangler watch --every 2s',
  async run(invocation) {
    const { text, flag, show } = invocation
    const everyMs = parseDuration('every', text('every') ?? '1s')
    const rounds = readRounds(text('rounds'))
    for (let round = 1; ; round += 1) {
      const outcome = await status.run(invocation).catch(away)
      if (round === rounds) return outcome
      show(flag('json') ? JSON.stringify(outcome.json) : `${clearScreen}${outcome.text}`)
      await pause(everyMs)
    }
  },
}

/** A server that is away is what one watches for. */
function away(error: unknown): Outcome {
  if (!isConnectionError(error)) throw error
  const reason = error instanceof Error ? error.message : String(error)
  const says = `the ledger does not answer: ${reason}`
  return { exitCode: 3, json: { error: says }, text: `${new Date().toISOString()}  ${says}` }
}

function readRounds(given: string | undefined): number {
  if (given === undefined) return Number.POSITIVE_INFINITY
  if (/^[1-9]\d{0,8}$/.test(given)) return Number(given)
  throw new StranglerError(
    'invalid_argument',
    `--rounds expected to be a count, such as 10, got ${given}`,
  )
}
