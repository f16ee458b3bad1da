import { StranglerError } from '../../contracts/errors.ts'
import { optional, readConfig, text } from '../../runtime/config.ts'
import { armFailpoints } from '../../runtime/failpoint.ts'
import { createLog, withoutSecrets } from '../../runtime/log.ts'
import { isConnectionError } from '../../runtime/postgres.ts'
import type { Command, ExitCode, Option } from './command.ts'
import { connectionsOf } from './connections.ts'
import { commonOptions, helpOf, usageOf } from './help.ts'
import { nearest } from './nearest.ts'
import { parseOptions } from './parse-options.ts'
import { readSettings } from './settings.ts'

/** Where the words go; a test reads them. */
export interface Streams {
  out(text: string): void
  err(text: string): void
}

/** One call of `strangler`. Never throws: what went wrong is told, with what to do next, and becomes the exit code. */
export async function runCommand(
  commands: Readonly<Record<string, () => Promise<Command>>>,
  args: readonly string[],
  streams: Streams,
  folder: string,
): Promise<ExitCode> {
  const [name, ...rest] = args
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    const about = rest[0] ?? ''
    const asked = Object.hasOwn(commands, about) ? commands[about] : undefined
    const all = Object.values(commands)
    streams.out(
      asked === undefined
        ? usageOf(await Promise.all(all.map((load) => load())))
        : helpOf(await asked()),
    )
    return name === undefined ? 2 : 0
  }
  const json = args.includes('--json')
  const load = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (load === undefined) {
    const near = nearest(name, Object.keys(commands))
    const hint = near === undefined ? '"strangler --help" lists them' : `did you mean "${near}"?`
    const message = `there is no command "${name}"; ${hint}`
    if (json) streams.out(JSON.stringify({ error: { code: 'invalid_argument', message } }))
    streams.err(`strangler: ${message}`)
    return 2
  }
  const command = await load()
  try {
    return await invoke(command, rest, streams, folder)
  } catch (error) {
    const told = tell(error, command)
    if (json) streams.out(JSON.stringify({ error: { code: told.code, message: told.message } }))
    streams.err(`strangler ${command.name}: ${told.message}`)
    return told.exitCode
  }
}

async function invoke(
  command: Command,
  args: readonly string[],
  streams: Streams,
  folder: string,
): Promise<ExitCode> {
  const known: Record<string, Option> = { ...command.options, ...commonOptions }
  const { values, positionals } = parseOptions(known, args)
  if (values['help'] === true) {
    streams.out(helpOf(command))
    return 0
  }
  const needed = command.operands.filter((operand) => operand.startsWith('<')).length
  if (positionals.length < needed || positionals.length > command.operands.length) {
    throw new StranglerError(
      'invalid_argument',
      `expected ${command.operands.join(' ') || 'no operand'}, got ${positionals.join(' ') || 'nothing'}`,
    )
  }
  const settings = readSettings(folder)
  if (settings.fromEstate !== undefined && settings.fromEstate.names.length > 0) {
    streams.err(`using ${settings.fromEstate.names.join(', ')} of ${settings.fromEstate.file}`)
  }
  armFailpoints(readConfig({ FAILPOINTS: optional(text()) }, settings.environment).FAILPOINTS)
  const log = createLog('strangler')
  const connections = connectionsOf(settings, log)
  try {
    const outcome = await command.run({
      positionals,
      text(option) {
        const value = values[option]
        return typeof value === 'string' ? value : undefined
      },
      flag: (option) => values[option] === true,
      connections,
      log,
      show: (line) => streams.out(line),
    })
    streams.out(values['json'] === true ? JSON.stringify(outcome.json, null, 2) : outcome.text)
    return outcome.exitCode
  } finally {
    await connections.close()
  }
}

interface Told {
  readonly code: string
  readonly message: string
  readonly exitCode: 2 | 3
}

function tell(error: unknown, command: Command): Told {
  if (error instanceof StranglerError) {
    const help =
      error.code === 'invalid_argument' ? `\n  "strangler ${command.name} --help" tells more` : ''
    const away = /_(unavailable|unreachable)$/.test(error.code)
    return {
      code: error.code,
      message: withoutSecrets(error.message) + help,
      exitCode: away ? 3 : 2,
    }
  }
  const message = withoutSecrets(error instanceof Error ? error.message : String(error))
  if (isConnectionError(error)) {
    const servers = command.settings.join(', ')
    return {
      code: 'unavailable',
      message: `a server does not answer: ${message || 'no connection'}; look at ${servers}`,
      exitCode: 3,
    }
  }
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'unexpected'
  switch (code) {
    case '42501':
      return {
        code: 'refused',
        message: `${message}; this needs the URL of a role that may do it`,
        exitCode: 2,
      }
    case '42P01':
    case '3F000':
      return {
        code: 'migration_missing',
        message: `${message}; run "strangler migrate" first`,
        exitCode: 2,
      }
    default:
      return { code, message, exitCode: 3 }
  }
}
