import { StranglerError } from '../../contracts/errors.ts'
import type { Log } from '../../runtime/log.ts'
import { AmqpBroker } from './amqp-broker.ts'
import type { Broker } from './port.ts'
import { PostgresBroker } from './postgres-broker.ts'

export interface OpenBrokerOptions {
  /** RabbitMQ's management API, such as `http://127.0.0.1:15672`. Without it some doubts stay open for a person. */
  readonly managementUrl?: string | undefined
  /** A broker that does not answer for so long has lost the connection; what it had not confirmed is unknown. */
  readonly confirmTimeoutMs?: number | undefined
  readonly log: Log
}

/** The legacy broker behind the URL: `postgres://` the queue in PostgreSQL, `amqp://` or `amqps://` RabbitMQ. Connects when used. */
export function openBroker(url: string, options: OpenBrokerOptions): Broker {
  const confirmTimeoutMs = options.confirmTimeoutMs ?? 10_000
  const { log, managementUrl } = options
  const scheme = url.split(':', 1)[0]
  if (scheme === 'postgres' || scheme === 'postgresql') {
    return new PostgresBroker(url, { confirmTimeoutMs, log })
  }
  if (scheme === 'amqp' || scheme === 'amqps') {
    return new AmqpBroker(url, { confirmTimeoutMs, managementUrl, log })
  }
  throw new StranglerError('invalid_configuration', `no broker speaks ${scheme ?? 'this'}://`)
}
