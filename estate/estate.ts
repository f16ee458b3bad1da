import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { StranglerError } from '../contracts/errors.ts'
import { inheritedEnvironment } from '../runtime/config.ts'
import { type NodeProcess, spawnNode } from './child-process.ts'
import { startEmbeddedPostgres } from './embedded-postgres.ts'
import { freePort } from './free-port.ts'
import type { PostgresServer } from './postgres-server.ts'
import {
  createDatabases,
  type EstateDatabases,
  makeLoginRoles,
  prepareEmbeddedBroker,
} from './provision.ts'
import { type CommandResult, run } from './run-command.ts'

const root = join(import.meta.dirname, '..')

// What an earlier estate of ours may have left on a broker of one's own.
const leftovers = ['mes.orders', 'crm.events'].flatMap((queue) => [
  `strangler.bridge.${queue}`,
  `strangler.forward.${queue}`,
])

// For processes that pump models: a chunk's bytes lie outside the heap and are freed with their small handle, so the young
// generation must be collected often. A 200 MB upload then costs 20 MB instead of 60 (measured).
const pumping = { NODE_OPTIONS: '--max-semi-space-size=1' }

export const processNames = [
  'shop',
  'crm',
  'mes',
  'proxy',
  'bridge',
  'relay',
  'courier',
  'watch',
  'applier',
  'shadow',
] as const
export type ProcessName = (typeof processNames)[number]

export interface EstateOptions {
  /** A server that is there already; without it an embedded one is started, and stopped with the estate. */
  readonly postgres?: PostgresServer
  /** Before the names of databases; needed on a server that others use too. */
  readonly databasePrefix?: string
  /** redis://...; without it the doorbell is BullMQ's PostgreSQL backend. */
  readonly queueUrl?: string
  /** amqp://...; without it the legacy broker is the queue in PostgreSQL. Its legacy queues are made anew. */
  readonly amqpUrl?: string
  readonly amqpManagementUrl?: string
  readonly modelDirectory?: string
  /** More settings for single processes. */
  readonly settings?: Partial<Record<ProcessName, Readonly<Record<string, string>>>>
  /** Processes that are not to be started. */
  readonly without?: readonly ProcessName[]
  readonly onStep?: (step: string) => void
}

export interface Estate {
  readonly postgres: PostgresServer
  /** Superuser URLs. */
  readonly databases: EstateDatabases
  /** What people and partners use: through the proxy when there is one. */
  readonly pages: Readonly<Record<'shop' | 'crm' | 'mes', string>>
  /** The legacy processes themselves. */
  readonly legacy: Readonly<Record<'shop' | 'crm' | 'mes', string>>
  readonly parts: Readonly<Record<string, string>>
  readonly modelDirectory: string
  /** For the `strangler` command of a person who works on this estate. */
  readonly operatorEnvironment: Readonly<Record<string, string>>
  readonly processes: ReadonlyMap<ProcessName, NodeProcess>
  process(name: ProcessName): NodeProcess
  /** Starts a process that `without` left out, or one more life of it with other settings. */
  launch(name: ProcessName, settings?: Readonly<Record<string, string>>): Promise<NodeProcess>
  /** Runs the `strangler` command as an operator would. */
  strangler(...args: string[]): Promise<CommandResult>
  /** The same with other settings, for what needs more rights than the operator has. */
  stranglerWith(
    environment: Readonly<Record<string, string>>,
    ...args: string[]
  ): Promise<CommandResult>
  stop(): Promise<void>
}

/** Brings up the whole estate: servers, databases, roles, migrations, legacy stand-ins, and the toolkit around them. */
export async function startEstate(options: EstateOptions = {}): Promise<Estate> {
  const step = options.onStep ?? (() => undefined)
  const undo: (() => Promise<void>)[] = []
  try {
    return await build(options, step, undo)
  } catch (error) {
    await undoAll(undo)
    throw error
  }
}

async function undoAll(undo: (() => Promise<void>)[]): Promise<void> {
  const errors: unknown[] = []
  for (const each of undo.splice(0).toReversed())
    await each().catch((error: unknown) => errors.push(error))
  if (errors.length > 0) throw new AggregateError(errors, 'the estate did not stop cleanly')
}

async function build(
  options: EstateOptions,
  step: (text: string) => void,
  undo: (() => Promise<void>)[],
): Promise<Estate> {
  const postgres =
    options.postgres ??
    (await startEmbeddedPostgres({ settings: { 'pg_stat_statements.track': 'all' } }))
  if (options.postgres === undefined) undo.push(() => postgres.stop())
  step('PostgreSQL is up')

  const modelDirectory =
    options.modelDirectory ?? (await mkdtemp(join(tmpdir(), 'strangler-models-')))
  if (options.modelDirectory === undefined)
    undo.push(() => rm(modelDirectory, { recursive: true, force: true }))
  await mkdir(modelDirectory, { recursive: true })

  const prefix = options.databasePrefix ?? ''
  const databases = await createDatabases(postgres, prefix)
  const brokerUrl = options.amqpUrl ?? postgres.urlFor(`${prefix}broker`, 'broker_user')
  if (options.amqpUrl === undefined) await prepareEmbeddedBroker(databases.broker)
  else await declareOnRabbitmq(options.amqpUrl)
  const queueUrl = options.queueUrl ?? postgres.urlFor(`${prefix}doorbell`, 'doorbell_user')
  step('databases and roles are made')

  const migrated = await strangler(['migrate'], {
    SHOP_URL: databases.shop,
    LEDGER_URL: databases.ledger,
    MES_URL: databases.mes,
    QUEUE_URL: queueUrl,
  })
  if (migrated.code !== 0)
    throw new Error(`strangler migrate ended with ${migrated.code}:\n${migrated.stderr}`)
  await makeLoginRoles(postgres, databases.ledger)
  step('the toolkit is migrated in')

  const queuePrefix =
    options.queueUrl === undefined ? {} : { QUEUE_PREFIX: `strangler-${process.pid}-${Date.now()}` }
  const broker = {
    BROKER_URL: brokerUrl,
    ...(options.amqpManagementUrl === undefined
      ? {}
      : { AMQP_MANAGEMENT_URL: options.amqpManagementUrl }),
  }
  const ledgerAs = (role: string): string => postgres.urlFor(`${prefix}ledger`, `${role}_login`)
  const shopAs = (role: string): string => postgres.urlFor(`${prefix}shop`, `${role}_login`)
  const mesReader = (role: string): string => postgres.urlFor(`${prefix}mes`, `${role}_login`)
  const listenPorts = { shop: await freePort(), crm: await freePort(), mes: await freePort() }

  const operatorEnvironment = {
    LEDGER_URL: ledgerAs('operator'),
    SHOP_URL: shopAs('operator'),
    MES_URL: mesReader('operator'),
    QUEUE_URL: queueUrl,
    ...queuePrefix,
    ...broker,
  }

  const processes = new Map<ProcessName, NodeProcess>()
  const portOf = (name: ProcessName): number => {
    const port = processes.get(name)?.port
    if (port === undefined) throw new Error(`${name} has told no port`)
    return port
  }
  const definitions: Record<
    ProcessName,
    { file: string; args?: string[]; env: () => Record<string, string> }
  > = {
    shop: {
      file: 'legacy/shop/main.ts',
      env: () => ({
        SHOP_DATABASE_URL: postgres.urlFor(`${prefix}shop`, 'shop'),
        MODEL_DIR: modelDirectory,
        ...pumping,
      }),
    },
    crm: {
      file: 'legacy/crm/main.ts',
      env: () => ({
        SHOP_DATABASE_URL: postgres.urlFor(`${prefix}shop`, 'crm'),
        BROKER_URL: brokerUrl,
        MODEL_DIR: modelDirectory,
      }),
    },
    mes: {
      file: 'legacy/mes/main.ts',
      env: () => ({
        MES_DATABASE_URL: postgres.urlFor(`${prefix}mes`, 'mes'),
        BROKER_URL: brokerUrl,
        MODEL_DIR: modelDirectory,
        ...pumping,
      }),
    },
    proxy: {
      file: 'strangler-proxy/main.ts',
      env: () => ({
        SHOP_UPSTREAM: `http://127.0.0.1:${portOf('shop')}`,
        CRM_UPSTREAM: `http://127.0.0.1:${portOf('crm')}`,
        MES_UPSTREAM: `http://127.0.0.1:${portOf('mes')}`,
        SHOP_LISTEN_PORT: String(listenPorts.shop),
        CRM_LISTEN_PORT: String(listenPorts.crm),
        MES_LISTEN_PORT: String(listenPorts.mes),
        ADMIN_PORT: '0',
        LEDGER_URL: ledgerAs('proxy'),
        ...pumping,
      }),
    },
    bridge: {
      file: 'adapters/bridge/main.ts',
      env: () => ({
        LEDGER_URL: ledgerAs('bridge'),
        SHOP_URL: shopAs('bridge'),
        MES_URL: mesReader('bridge'),
        QUEUE_URL: queueUrl,
        ...queuePrefix,
        ...broker,
      }),
    },
    relay: {
      file: 'adapters/orders/main.ts',
      args: ['relay'],
      env: () => ({
        LEDGER_URL: ledgerAs('relay'),
        SHOP_URL: shopAs('relay'),
        QUEUE_URL: queueUrl,
        ...queuePrefix,
      }),
    },
    courier: {
      file: 'adapters/orders/main.ts',
      args: ['courier'],
      env: () => ({
        LEDGER_URL: ledgerAs('courier'),
        QUEUE_URL: queueUrl,
        ...queuePrefix,
        ...broker,
      }),
    },
    watch: {
      file: 'adapters/orders/main.ts',
      args: ['watch'],
      env: () => ({ LEDGER_URL: ledgerAs('watch'), MES_URL: mesReader('watch'), ...broker }),
    },
    applier: {
      file: 'adapters/statuses/main.ts',
      args: ['applier'],
      env: () => ({
        LEDGER_URL: ledgerAs('applier'),
        SHOP_URL: shopAs('applier'),
        QUEUE_URL: queueUrl,
        ...queuePrefix,
      }),
    },
    shadow: {
      file: 'adapters/statuses/main.ts',
      args: ['shadow'],
      env: () => ({ LEDGER_URL: ledgerAs('shadow'), SHOP_URL: shopAs('shadow') }),
    },
  }
  const launch = async (
    name: ProcessName,
    settings: Readonly<Record<string, string>> = {},
  ): Promise<NodeProcess> => {
    const definition = definitions[name]
    const child = spawnNode(name, join(root, definition.file), {
      args: definition.args ?? [],
      env: { ...definition.env(), ...options.settings?.[name], ...settings },
    })
    processes.set(name, child)
    undo.push(async () => {
      await child.terminate()
    })
    await child.ready
    return child
  }
  const wanted = processNames.filter((name) => options.without?.includes(name) !== true)
  const legacyNames: readonly ProcessName[] = wanted.filter(
    (name) => name === 'shop' || name === 'crm' || name === 'mes',
  )
  await Promise.all(legacyNames.map((name) => launch(name)))
  step('Shop, CRM and MES are up')
  await Promise.all(
    wanted.filter((name) => !legacyNames.includes(name)).map((name) => launch(name)),
  )
  step('the toolkit is up')

  const legacyUrl = (name: 'shop' | 'crm' | 'mes'): string =>
    `http://127.0.0.1:${processes.get(name)?.port ?? 0}`
  const pageUrl = (name: 'shop' | 'crm' | 'mes'): string =>
    processes.has('proxy') ? `http://127.0.0.1:${listenPorts[name]}` : legacyUrl(name)
  return {
    postgres,
    databases,
    pages: { shop: pageUrl('shop'), crm: pageUrl('crm'), mes: pageUrl('mes') },
    legacy: { shop: legacyUrl('shop'), crm: legacyUrl('crm'), mes: legacyUrl('mes') },
    parts: {
      postgres:
        options.postgres === undefined ? 'embedded PostgreSQL' : 'a PostgreSQL server of your own',
      queue: options.queueUrl === undefined ? 'BullMQ on PostgreSQL' : 'BullMQ on Redis',
      broker: options.amqpUrl === undefined ? 'queue in PostgreSQL' : 'RabbitMQ',
      models: 'folder',
    },
    modelDirectory,
    operatorEnvironment,
    processes,
    process(name) {
      const found = processes.get(name)
      if (found === undefined) throw new Error(`${name} was not started`)
      return found
    },
    launch,
    strangler: (...args) => strangler(args, operatorEnvironment),
    stranglerWith: (environment, ...args) =>
      strangler(args, { ...operatorEnvironment, ...environment }),
    stop: () => undoAll(undo),
  }
}

/** Makes the legacy topology anew. The URL goes in the environment: it holds a password, and arguments are for all to see. */
async function declareOnRabbitmq(amqpUrl: string): Promise<void> {
  const { code, stderr } = await run(
    process.execPath,
    [join(root, 'legacy/broker/declare-amqp.ts'), '--anew', ...leftovers],
    { ...inheritedEnvironment(), BROKER_URL: amqpUrl },
    true,
  )
  if (code !== 0)
    throw new StranglerError(code === 3 ? 'broker_unreachable' : 'refused', stderr.trim())
}

function strangler(
  args: string[],
  environment: Readonly<Record<string, string>>,
): Promise<CommandResult> {
  return run(
    process.execPath,
    [join(root, 'scripts/strangler.ts'), ...args],
    { ...inheritedEnvironment(), ...environment },
    true,
  )
}
