import type { Command, ExitCode, Option } from './command.ts'

export const commonOptions: Readonly<Record<string, Option>> = {
  json: { type: 'boolean', says: 'one JSON document on stdout; logs stay on stderr' },
  help: { type: 'boolean', says: 'this text' },
}

const exitCodes: Readonly<Record<ExitCode, string>> = {
  0: 'done',
  1: 'a difference or something unsafe was found',
  2: 'refused, blocked, or asked in a wrong way',
  3: 'inconclusive: a source could not be read, or the work is under way and not complete',
}

const settings: Readonly<Record<string, string>> = {
  LEDGER_URL: 'our database, postgres://',
  SHOP_URL: "the Shop's database, postgres://",
  MES_URL: "the MES's database, postgres://",
  INTAKE_URL: 'the database of the partner intake, postgres://',
  BROKER_URL: 'the legacy broker, amqp:// or postgres:// (AMQP_URL is the same)',
  AMQP_MANAGEMENT_URL: "RabbitMQ's management API, http://user:password@host:15672",
  QUEUE_URL: 'the doorbell, redis:// or postgres://',
  APPROVALS_NEEDED: 'how many people must approve a step; default: 0',
  UNLEASH_URL: 'the API of Unleash, which holds the wish: http://host:4242/api',
  UNLEASH_ADMIN_TOKEN: 'a token of its admin API',
  UNLEASH_ENVIRONMENT: 'of Unleash; default: development',
  SHOP_DOOR: 'what people use, through the proxy, http://host:port; the same: CRM_DOOR, MES_DOOR',
  SHOP_UPSTREAM: 'the legacy process itself; the same: CRM_UPSTREAM, MES_UPSTREAM',
  GATE_MINIMUM: 'how many orders, messages or pairs are evidence; default: 100',
  GATE_WINDOW: 'how far back the gates look; default: 1d',
}

export function usageOf(commands: readonly Command[]): string {
  const width = Math.max(...commands.map((command) => command.name.length))
  return lines(
    'strangler: moves the orders of a Shop, a CRM and a MES to new routes, one phase at a time',
    '',
    'usage: strangler <command> [options]',
    '',
    ...commands.map((command) => `  ${command.name.padEnd(width)}  ${command.summary}`),
    '',
    '"strangler <command> --help" tells more. Settings come from the environment:',
    ...table(Object.entries(settings)),
    'Where one is not set, .strangler/estate.json of this folder or one above is asked:',
    '"npm run demo -- --keep" writes it.',
    '',
    ...exits({}),
  )
}

export function helpOf(command: Command): string {
  const options = { ...command.options, ...commonOptions }
  return lines(
    `strangler ${command.name}: ${command.summary}`,
    '',
    `usage: ${['strangler', command.name, ...command.operands].join(' ')} [options]`,
    '',
    'options:',
    ...table(
      Object.entries(options).map(([name, option]) => [
        `--${name}${option.type === 'string' ? ` <${option.value ?? name}>` : ''}`,
        option.says,
      ]),
    ),
    '',
    'settings:',
    ...table(command.settings.map((name) => [name, settings[name] ?? ''])),
    '',
    ...exits(command.exits ?? {}),
    '',
    `example: ${command.example}`,
  )
}

function exits(own: Partial<Record<ExitCode, string>>): string[] {
  const merged = Object.entries({ ...exitCodes, ...own })
  return ['exit codes:', ...table(merged)]
}

function table(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(...rows.map(([name]) => name.length))
  return rows.map(([name, says]) => `  ${name.padEnd(width)}  ${says}`)
}

function lines(...all: string[]): string {
  return all.join('\n')
}
