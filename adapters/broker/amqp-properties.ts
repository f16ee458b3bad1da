import type { MessageProperties as WireProperties, Options } from 'amqplib'

import { legacyNumericHeaders } from '../wire/legacy-topology.ts'
import type { MessageProperties } from './port.ts'

const names = [
  'contentType',
  'contentEncoding',
  'headers',
  'deliveryMode',
  'priority',
  'correlationId',
  'replyTo',
  'expiration',
  'messageId',
  'timestamp',
  'type',
  'userId',
  'appId',
] as const

/** What the message carried, without the names that it did not. */
export function fromWire(properties: WireProperties): MessageProperties {
  return Object.fromEntries(
    names.flatMap((name) => {
      const value: unknown = properties[name]
      return value === undefined ? [] : [[name, value]]
    }),
  )
}

/** Persistent and mandatory; the rest as it was. The client encodes a number in the smallest type unless the type is declared. */
export function toWire(properties: MessageProperties): Options.Publish {
  const headers = Object.entries(properties.headers ?? {}).map(([name, value]) => {
    const type = legacyNumericHeaders[name]
    return [name, type !== undefined && typeof value === 'number' ? { '!': type, value } : value]
  })
  return {
    ...properties,
    headers: Object.fromEntries(headers),
    deliveryMode: 2,
    mandatory: true,
  }
}
