import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { StranglerError } from '../contracts/errors.ts'
import { inheritedEnvironment } from '../runtime/config.ts'
import { type NodeProcess, spawnNode } from './child-process.ts'
import { freePort } from './free-port.ts'
import type { PostgresServer } from './postgres-server.ts'
import { databasesOn, type EstateDatabases, provision } from './provision.ts'
import { startProvisionedPostgres } from './provisioned-postgres.ts'
import { type CommandResult, run } from './run-command.ts'
import { strangler } from './strangler-command.ts'
import { startUnleash, type UnleashServer } from './unleash-server.ts'

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
/** Only where `with` asks for them. */
const moreProcessNames = [
  'reconciler',
  'console',
  'intake',
  'intake-relay',
  'intake-feed',
  'webhooks',
] as const
export type ProcessName = (typeof processNames)[number] | (typeof moreProcessNames)[number]

export interface EstateOptions {
  /** A server that is there already; without it an embedded one is started, and stopped with the estate. */
  readonly postgres?: PostgresServer
  /** Before the names of databases on that server; needed where others use it too. */
  readonly databasePrefix?: string
  /** Of the embedded server. */
  readonly postgresSettings?: Readonly<Record<string, string>>
  /** redis://...; without it the doorbell is BullMQ's PostgreSQL backend. */
  readonly queueUrl?: string
  /** amqp://...; without it the legacy broker is the queue in PostgreSQL. Its legacy queues are made anew. */
  readonly amqpUrl?: string
  readonly amqpManagementUrl?: string
  readonly modelDirectory?: string
  /** The real Unleash server beside it, for the wish. */
  readonly unleash?: boolean
  /** More settings for single processes. */
  readonly settings?: Partial<Record<ProcessName, Readonly<Record<string, string>>>>
  /** Processes that are not to be started. */
  readonly without?: readonly ProcessName[]
  readonly with?: readonly (typeof moreProcessNames)[number][]
  /** Settings of the gates, for the reconciler and for the commands. */
  readonly gates?: Readonly<Record<string, string>>
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
  /** When it was asked for: its pages, and who may log in to them. */
  readonly unleash: UnleashServer | undefined
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
  const prefix = options.postgres === undefined ? '' : (options.databasePrefix ?? '')
  const postgres = options.postgres ?? (await startProvisionedPostgres(options.postgresSettings))
  if (options.postgres === undefined) undo.push(() => postgres.stop())
  step('PostgreSQL is up')

  const modelDirectory =
    options.modelDirectory ?? (await mkdtemp(join(tmpdir(), 'strangler-models-')))
  if (options.modelDirectory === undefined)
    undo.push(() => rm(modelDirectory, { recursive: true, force: true }))
  await mkdir(modelDirectory, { recursive: true })

  const wishDirectory = await mkdtemp(join(tmpdir(), 'strangler-wish-'))
  undo.push(() => rm(wishDirectory, { recursive: true, force: true }))
  const databases = databasesOn(postgres, prefix)
  const brokerUrl = options.amqpUrl ?? postgres.urlFor(`${prefix}broker`, 'broker_user')
  const queueUrl = options.queueUrl ?? postgres.urlFor(`${prefix}doorbell`, 'doorbell_user')
  if (options.postgres !== undefined) await provision(postgres, prefix, queueUrl)
  if (options.amqpUrl !== undefined) await declareOnRabbitmq(options.amqpUrl)
  // Beside everything else: it takes longer than the rest together.
  const unleashStarting =
    options.unleash === true ? startUnleash(postgres, { prefix }) : Promise.resolve(undefined)
  undo.push(async () => {
    // One that did not start has left nothing behind.
    const started = await unleashStarting.catch(() => undefined)
    await started?.stop()
  })
  step('databases and roles are made, and the toolkit is migrated in')

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
  const intakeAs = (role: string): string => postgres.urlFor(`${prefix}intake`, `${role}_login`)
  const mesReader = (role: string): string => postgres.urlFor(`${prefix}mes`, `${role}_login`)
  const listenPorts = {
    shop: await freePort(),
    crm: await freePort(),
    mes: await freePort(),
    intake: await freePort(),
  }
  const hasIntake = options.with?.includes('intake') === true

  const processes = new Map<ProcessName, NodeProcess>()
  // Where there is no intake, nobody is to know of its database.
  const intakeOf = (role: string): Record<string, string> =>
    hasIntake ? { INTAKE_URL: intakeAs(role) } : {}
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
        ...(hasIntake && {
          INTAKE_URL: intakeAs('proxy'),
          INTAKE_UPSTREAM: `http://127.0.0.1:${listenPorts.intake}`,
        }),
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
    intake: {
      file: 'partner-intake/main.ts',
      env: () => ({
        INTAKE_URL: intakeAs('intake'),
        PORT: String(listenPorts.intake),
        MES_UPSTREAM: `http://127.0.0.1:${portOf('mes')}`,
        MODEL_DIR: modelDirectory,
        // As above, but with room for what lives as long as an order: with less it collects for a sixth of its time.
        NODE_OPTIONS: '--max-semi-space-size=4',
        // An upload is a handful of calls to the disk: with Node's four threads they wait for each other.
        UV_THREADPOOL_SIZE: '16',
      }),
    },
    'intake-relay': {
      file: 'adapters/partners/main.ts',
      args: ['relay'],
      env: () => ({
        LEDGER_URL: ledgerAs('partner_relay'),
        INTAKE_URL: intakeAs('partner_relay'),
        // The MES of the estate prices in milliseconds, not in minutes.
        PARTNER_ORDERS_PER_MINUTE: '60000',
        QUEUE_URL: queueUrl,
        ...queuePrefix,
        ...broker,
      }),
    },
    'intake-feed': {
      file: 'adapters/partners/main.ts',
      args: ['feed'],
      env: () => ({
        LEDGER_URL: ledgerAs('partner_feed'),
        INTAKE_URL: intakeAs('partner_feed'),
        MES_URL: mesReader('partner_feed'),
      }),
    },
    webhooks: {
      file: 'adapters/partners/main.ts',
      args: ['webhooks'],
      env: () => ({ INTAKE_URL: intakeAs('partner_webhooks') }),
    },
    reconciler: {
      file: 'adapters/reconciler/main.ts',
      env: () => ({
        LEDGER_URL: ledgerAs('reconciler'),
        SHOP_URL: shopAs('reconciler'),
        MES_URL: mesReader('reconciler'),
        ...intakeOf('reconciler'),
        ...doors(),
        ...options.gates,
        ...unleashOfReconciler(),
      }),
    },
    shadow: {
      file: 'adapters/statuses/main.ts',
      args: ['shadow'],
      env: () => ({
        LEDGER_URL: ledgerAs('shadow'),
        SHOP_URL: shopAs('shadow'),
        ...intakeOf('shadow'),
      }),
    },
    console: {
      file: 'console/main.ts',
      env: () => ({
        LEDGER_URL: ledgerAs('console'),
        SHOP_URL: shopAs('console'),
        ...intakeOf('console'),
        QUEUE_URL: queueUrl,
        ...queuePrefix,
        ...unleashOfConsole(),
      }),
    },
  }
  const legacyUrl = (name: 'shop' | 'crm' | 'mes'): string =>
    `http://127.0.0.1:${processes.get(name)?.port ?? 0}`
  const pageUrl = (name: 'shop' | 'crm' | 'mes'): string =>
    processes.has('proxy') ? `http://127.0.0.1:${listenPorts[name]}` : legacyUrl(name)
  /** The doors that there are, and what is behind them: the gates compare both. */
  const doors = (): Record<string, string> =>
    Object.fromEntries(
      (['shop', 'crm', 'mes'] as const)
        .filter((name) => processes.has(name) && processes.has('proxy'))
        .flatMap((name) => [
          [`${name.toUpperCase()}_DOOR`, pageUrl(name)],
          [`${name.toUpperCase()}_UPSTREAM`, legacyUrl(name)],
        ]),
    )
  const operator = (): Readonly<Record<string, string>> => ({
    ...operatorEnvironment,
    ...doors(),
    ...options.gates,
  })
  const unleashOfReconciler = (): Record<string, string> =>
    unleash === undefined
      ? {}
      : {
          UNLEASH_URL: `${unleash.url}/api`,
          UNLEASH_CLIENT_TOKEN: unleash.clientToken,
          UNLEASH_BACKUP_DIRECTORY: wishDirectory,
          UNLEASH_POLL: '250ms',
        }
  const unleashOfConsole = (): Record<string, string> =>
    unleash === undefined
      ? {}
      : { UNLEASH_URL: `${unleash.url}/api`, UNLEASH_ADMIN_TOKEN: unleash.adminToken }
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
  const wanted = [
    ...processNames.filter((name) => options.without?.includes(name) !== true),
    ...moreProcessNames.filter((name) => options.with?.includes(name) === true),
  ]
  const legacyNames: readonly ProcessName[] = wanted.filter(
    (name) => name === 'shop' || name === 'crm' || name === 'mes',
  )
  await Promise.all(legacyNames.map((name) => launch(name)))
  step('Shop, CRM and MES are up')
  const unleash = await unleashStarting
  if (unleash !== undefined) step('Unleash is up')
  await Promise.all(
    wanted.filter((name) => !legacyNames.includes(name)).map((name) => launch(name)),
  )
  step('the toolkit is up')

  const operatorEnvironment = {
    LEDGER_URL: ledgerAs('operator'),
    SHOP_URL: shopAs('operator'),
    MES_URL: mesReader('operator'),
    ...intakeOf('operator'),
    QUEUE_URL: queueUrl,
    ...queuePrefix,
    ...broker,
    MODEL_DIR: modelDirectory,
    ...(unleash === undefined
      ? {}
      : {
          UNLEASH_URL: `${unleash.url}/api`,
          UNLEASH_ADMIN_TOKEN: unleash.adminToken,
          UNLEASH_CLIENT_TOKEN: unleash.clientToken,
        }),
  }

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
      ...(unleash === undefined ? {} : { flags: 'Unleash' }),
    },
    modelDirectory,
    unleash,
    operatorEnvironment: operator(),
    processes,
    process(name) {
      const found = processes.get(name)
      if (found === undefined) throw new Error(`${name} was not started`)
      return found
    },
    launch,
    strangler: (...args) => strangler(args, operator()),
    stranglerWith: (environment, ...args) => strangler(args, { ...operator(), ...environment }),
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
