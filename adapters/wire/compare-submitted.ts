import type { FieldDifference } from '../../delivery/parity-book.ts'
import { crmProperties } from './order-submitted.ts'
import { sameNumber } from './same-number.ts'

/** A message to the MES: `order.submitted` as one side makes it. */
export interface SubmittedMessage {
  readonly routingKey: string
  readonly body: Buffer
}

export interface SentByCrm extends SubmittedMessage {
  readonly properties: {
    readonly contentType?: string
    readonly headers?: Readonly<Record<string, unknown>>
  }
}

/** The fields there are when CRM and we agree on the format; one that only CRM sends has the name it has there. */
export const submittedFields = [
  'message',
  'routing_key',
  'content_type',
  'header x-sender',
  'orderId',
  'source',
  'status',
  'clientId',
  'customerTier',
  'material',
  'quantity',
  'comment',
  'model.key',
  'model.sha256',
  'model.bytes',
] as const

/** Clocks are no difference. */
const clocks = new Set(['occurredAt'])

/** Key, properties and body field by field; values as JSON, so that 3 and "3" are two. Ids of messages are no difference. */
export function compareSubmitted(
  ours: SubmittedMessage | undefined,
  theirs: SentByCrm,
): FieldDifference[] {
  const ourFields = ours === undefined ? undefined : fieldsOf(ours.body)
  const theirFields = fieldsOf(theirs.body)
  if (ours === undefined || ourFields === undefined || theirFields === undefined) {
    return [
      {
        field: 'message',
        ours: ourFields === undefined ? undefined : 'readable',
        theirs: theirFields === undefined ? 'unreadable' : 'readable',
      },
    ]
  }
  const { contentType, headers } = theirs.properties
  return [
    ...compareField('routing_key', ours.routingKey, theirs.routingKey),
    ...compareField('content_type', crmProperties.contentType, contentType),
    ...compareAll(
      mapOf(crmProperties.headers, (name) => `header ${name}`),
      mapOf(headers ?? {}, (name) => `header ${name}`),
    ),
    ...compareAll(ourFields, theirFields),
  ]
}

function compareAll(
  ours: ReadonlyMap<string, string>,
  theirs: ReadonlyMap<string, string>,
): FieldDifference[] {
  return [...new Set([...ours.keys(), ...theirs.keys()])].flatMap((field) =>
    compareField(field, ours.get(field), theirs.get(field)),
  )
}

function compareField(
  field: string,
  ours: string | undefined,
  theirs: string | undefined,
): FieldDifference[] {
  const same =
    ours === theirs || (ours !== undefined && theirs !== undefined && sameNumber(ours, theirs))
  return same ? [] : [{ field, ours, theirs }]
}

/** Every value by its path, such as `model.bytes`; undefined = the body is no JSON object. */
function fieldsOf(body: Buffer): Map<string, string> | undefined {
  let parsed: unknown
  try {
    parsed = JSON.parse(body.toString('utf8'), keepDigits)
  } catch {
    return undefined
  }
  if (typeof parsed !== 'object' || parsed === null) return undefined
  const fields = new Map<string, string>()
  collect(parsed, '', fields)
  for (const clock of clocks) fields.delete(clock)
  return fields
}

/** A number as it was written: read and written again it may lose digits. */
class Digits {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

function keepDigits(_key: string, value: unknown, context?: { readonly source?: string }): unknown {
  return typeof value === 'number' ? new Digits(context?.source ?? String(value)) : value
}

function collect(value: object, path: string, fields: Map<string, string>): void {
  for (const [name, each] of Object.entries(value)) {
    const at = shorten(path === '' ? name : `${path}.${name}`)
    if (each instanceof Digits) fields.set(at, each.text)
    else if (typeof each === 'object' && each !== null && Object.keys(each).length > 0)
      collect(each, at, fields)
    else fields.set(at, JSON.stringify(each))
  }
}

function mapOf(
  values: Readonly<Record<string, unknown>>,
  nameOf: (name: string) => string,
): Map<string, string> {
  return new Map(
    Object.entries(values).map(([name, value]) => [shorten(nameOf(name)), JSON.stringify(value)]),
  )
}

/** A name that comes from a message: short enough to be shown, and nothing that a database would refuse. */
function shorten(name: string): string {
  return name.replaceAll('\0', '').slice(0, 200)
}
