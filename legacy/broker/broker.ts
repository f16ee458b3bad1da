import { AmqpBroker } from './amqp-broker.ts'
import type { Broker, BrokerOptions } from './broker-port.ts'
import { PostgresBroker } from './postgres-broker.ts'

/** Resolves once the broker has been reached for the first time, however long that takes. */
export async function connectBroker(
  url: string,
  options: BrokerOptions,
  signal?: AbortSignal,
): Promise<Broker> {
  const { protocol } = new URL(url)
  switch (protocol) {
    case 'postgres:':
    case 'postgresql:':
      return PostgresBroker.connect(url, options, signal)
    case 'amqp:':
    case 'amqps:':
      return AmqpBroker.connect(url, options, signal)
    default:
      throw new Error(`no broker speaks ${protocol}`)
  }
}
