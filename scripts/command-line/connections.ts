import type { Broker } from '../../adapters/broker/port.ts'
import { StranglerError } from '../../contracts/errors.ts'
import type { WishPlace } from '../../flags/express-wish.ts'
import type { Seams } from '../../flags/seams.ts'
import { unleashAdmin } from '../../flags/unleash/unleash-admin.ts'
import type { UnleashAdmin } from '../../flags/unleash/unleash-admin.ts'
import { integer, optional, readConfig, text, url, withDefault } from '../../runtime/config.ts'
import type { Reader, Values } from '../../runtime/config.ts'
import type { Log } from '../../runtime/log.ts'
import { createPool } from '../../runtime/postgres.ts'
import type { Pool } from '../../runtime/postgres.ts'
import type { Settings } from './settings.ts'

const postgres = url('postgres', 'postgresql')
const broker = optional(url('postgres', 'postgresql', 'amqp', 'amqps'))
const shapes = {
  LEDGER_URL: postgres,
  SHOP_URL: postgres,
  MES_URL: postgres,
  INTAKE_URL: postgres,
  QUEUE_URL: url('postgres', 'postgresql', 'redis', 'rediss'),
  AMQP_MANAGEMENT_URL: url('http', 'https'),
  UNLEASH_URL: url('http', 'https'),
} as const
export type UrlName = keyof typeof shapes

/** What a command talks to; opened when first asked for, closed all together. */
export interface Connections {
  /** @throws StranglerError `invalid_configuration` that names the variable */
  urlOf(name: UrlName): string
  isSet(name: UrlName | 'BROKER_URL'): boolean
  /** Settings other than URLs of servers. @throws StranglerError `invalid_configuration` */
  read<Shape extends Record<string, Reader<unknown>>>(shape: Shape): Values<Shape>
  ledger(): Pool
  shop(): Pool
  mes(): Pool
  intake(): Pool
  /** Each is asked for its setting when it is used. */
  seams(): Seams
  broker(): Promise<Broker>
  brokerUrl(): string
  /** How many people must approve a step; 0 where nobody must. */
  approvalsNeeded(): number
  unleash(): UnleashAdmin
  wishPlace(): WishPlace
  close(): Promise<void>
}

export function connectionsOf(settings: Settings, log: Log): Connections {
  const { environment } = settings
  const pools = new Map<UrlName, Pool>()
  let opened: Promise<Broker> | undefined
  const urlOf = (name: UrlName): string => {
    try {
      return readConfig({ [name]: shapes[name] }, environment)[name]!
    } catch (error) {
      throw explain(error)
    }
  }
  const pool = (name: UrlName): Pool => {
    const known = pools.get(name)
    if (known !== undefined) return known
    const made = createPool(urlOf(name), { name: 'strangler-command', lostAfterMs: 0, log })
    pools.set(name, made)
    return made
  }
  const brokerUrl = (): string => {
    const { BROKER_URL, AMQP_URL } = readConfig(
      { BROKER_URL: broker, AMQP_URL: broker },
      environment,
    )
    const found = BROKER_URL ?? AMQP_URL
    if (found !== undefined) return found
    throw explain(
      new StranglerError(
        'invalid_configuration',
        'BROKER_URL expected to be a URL with postgres:// or amqp://, got nothing',
      ),
    )
  }
  const open = async (): Promise<Broker> => {
    const { AMQP_MANAGEMENT_URL: managementUrl } = readConfig(
      { AMQP_MANAGEMENT_URL: optional(shapes.AMQP_MANAGEMENT_URL) },
      environment,
    )
    const brokerAt = brokerUrl()
    // Most commands need no broker, and its client takes a noticeable part of a second to load.
    const { openBroker } = await import('../../adapters/broker/open-broker.ts')
    return openBroker(brokerAt, { managementUrl, log })
  }
  const unleash = (): UnleashAdmin => {
    try {
      const { UNLEASH_URL, UNLEASH_ADMIN_TOKEN, UNLEASH_ENVIRONMENT } = readConfig(
        {
          UNLEASH_URL: shapes.UNLEASH_URL,
          UNLEASH_ADMIN_TOKEN: text(),
          UNLEASH_ENVIRONMENT: optional(text()),
        },
        environment,
      )
      return unleashAdmin({
        url: UNLEASH_URL,
        token: UNLEASH_ADMIN_TOKEN,
        environment: UNLEASH_ENVIRONMENT,
      })
    } catch (error) {
      throw explain(error)
    }
  }
  return {
    urlOf,
    isSet: (name) =>
      environment[name] !== undefined ||
      (name === 'BROKER_URL' && environment['AMQP_URL'] !== undefined),
    read: (shape) => readConfig(shape, environment),
    ledger: () => pool('LEDGER_URL'),
    shop: () => pool('SHOP_URL'),
    mes: () => pool('MES_URL'),
    intake: () => pool('INTAKE_URL'),
    seams: () => ({
      get ledger() {
        return pool('LEDGER_URL')
      },
      get shop() {
        return pool('SHOP_URL')
      },
      get intake() {
        return environment['INTAKE_URL'] !== undefined ? pool('INTAKE_URL') : undefined
      },
    }),
    brokerUrl,
    broker() {
      opened ??= open()
      return opened
    },
    approvalsNeeded() {
      return readConfig(
        { APPROVALS_NEEDED: withDefault(integer({ min: 0, max: 10 }), 0) },
        environment,
      ).APPROVALS_NEEDED
    },
    unleash,
    wishPlace: () => ({
      ledger: pool('LEDGER_URL'),
      unleash: environment['UNLEASH_URL'] === undefined ? undefined : unleash(),
    }),
    async close() {
      await Promise.allSettled([
        ...[...pools.values()].map((each) => each.end()),
        opened?.then((each) => each.close()),
      ])
    },
  }
}

function explain(error: unknown): unknown {
  if (!(error instanceof StranglerError) || error.code !== 'invalid_configuration') return error
  return new StranglerError(
    error.code,
    `${error.detail}; set it, or run "npm run demo -- --keep" and this command in the same folder`,
    error,
  )
}
