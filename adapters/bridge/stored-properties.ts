import type { MessageProperties } from '../broker/port.ts'

/** JSON has no bytes, and PostgreSQL's jsonb no NUL: such values are kept under a name that AMQP's own types don't use. */
interface Kept {
  readonly '!': 'kept bytes' | 'kept text'
  readonly base64: string
}

export function propertiesToJson(properties: MessageProperties): string {
  return JSON.stringify(keep(properties))
}

export function propertiesFromJson(stored: unknown): MessageProperties {
  const restored = restore(stored)
  return typeof restored === 'object' && restored !== null ? restored : {}
}

function keep(value: unknown): unknown {
  if (Buffer.isBuffer(value)) {
    return { '!': 'kept bytes', base64: value.toString('base64') } satisfies Kept
  }
  if (typeof value === 'string' && value.includes('\0')) {
    return { '!': 'kept text', base64: Buffer.from(value).toString('base64') } satisfies Kept
  }
  return mapWithin(value, keep)
}

function restore(value: unknown): unknown {
  if (!isKept(value)) return mapWithin(value, restore)
  const bytes = Buffer.from(value.base64, 'base64')
  return value['!'] === 'kept bytes' ? bytes : bytes.toString()
}

function mapWithin(value: unknown, map: (each: unknown) => unknown): unknown {
  if (Array.isArray(value)) return value.map(map)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, map(each)]))
}

function isKept(value: unknown): value is Kept {
  return (
    typeof value === 'object' &&
    value !== null &&
    '!' in value &&
    (value['!'] === 'kept bytes' || value['!'] === 'kept text') &&
    'base64' in value &&
    typeof value.base64 === 'string'
  )
}
