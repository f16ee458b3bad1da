import { createHash } from 'node:crypto'

import type { ShadowAnswer } from './partner-shadow-answer.ts'

/** Where the answer of the intake (ours) and that of the MES (theirs) are not the same. undefined = there is none. */
export interface ShadowDifference {
  /** `http_status`, `content_type`, `body`, or a field of the answer. */
  readonly field: string
  readonly ours: string | undefined
  readonly theirs: string | undefined
  /** The order, in a list. */
  readonly order?: string | undefined
}

/** Each side makes its own; that they are there is compared all the same. */
const ofAnOrder = new Set(['id', 'created_at', 'updated_at', 'trace_id'])
/** The id is the same on both sides, whoever made it; each notes its own times. */
const ofARead = new Set(['created_at', 'updated_at', 'trace_id'])

/** Values of these are kept as they are. Anything else may be of a person, and is kept as a hash. */
const plainFields = new Set(
  (
    'http_status content_type id external_id status material quantity price currency orders page pages total ' +
    'error code title type detail'
  ).split(' '),
)

const untold = 'SUBMITTED'

type Fields = Readonly<Record<string, unknown>>

/** @param comment of the order: no text that holds it is kept */
export function compareOrderAnswers(
  ours: ShadowAnswer,
  theirs: ShadowAnswer,
  comment: string,
): ShadowDifference[] {
  return compareAnswers(ours, theirs, ofAnOrder).map((each) => ({
    ...each,
    ours: without(comment, each.ours),
    theirs: without(comment, each.theirs),
  }))
}

export function compareReads(ours: ShadowAnswer, theirs: ShadowAnswer): ShadowDifference[] {
  return compareAnswers(ours, theirs, ofARead)
}

/**
 * True when ours has an order that the MES does not know and that nothing was told of yet: it waits for its turn, and the two can't
 * be the same. That an order never gets there is found by the books, not here. Later pages of a list are moved by those on the first.
 */
export function waitsForMes(ours: ShadowAnswer, theirs: ShadowAnswer): boolean {
  const [a, b] = [fieldsIn(ours.body), fieldsIn(theirs.body)]
  if (ours.status !== 200 || a === undefined) return false
  if (theirs.status === 404) return a['status'] === untold
  const [inOurs, inTheirs] = [a['orders'], b?.['orders']]
  if (!isList(inOurs) || !isList(inTheirs)) return false
  const there = new Set(inTheirs.map((order) => order['id']))
  return (
    inOurs.some(({ id, status }) => status === untold && !there.has(id)) ||
    (Number(a['page']) > 1 && Number(a['total']) > Number(b?.['total']))
  )
}

/** undefined: the body is none of an object. */
export function fieldsIn(body: Buffer): Fields | undefined {
  try {
    const value: unknown = JSON.parse(body.toString('utf8'))
    return isFields(value) ? value : undefined
  } catch {
    return undefined
  }
}

function compareAnswers(
  ours: ShadowAnswer,
  theirs: ShadowAnswer,
  ignored: ReadonlySet<string>,
): ShadowDifference[] {
  const [a, b] = [fieldsIn(ours.body), fieldsIn(theirs.body)]
  // Two answers that mean something else differ in everything.
  if (ours.status !== theirs.status)
    return [{ field: 'http_status', ours: statusOf(ours, a), theirs: statusOf(theirs, b) }]
  const found: ShadowDifference[] = []
  const [typeA, typeB] = [typeOf(ours), typeOf(theirs)]
  if (typeA !== typeB) found.push({ field: 'content_type', ours: typeA, theirs: typeB })
  if (a !== undefined && b !== undefined) found.push(...compareFields(a, b, ignored))
  else if (!ours.body.equals(theirs.body))
    found.push({ field: 'body', ours: hashOf(ours.body), theirs: hashOf(theirs.body) })
  return found
}

function compareFields(ours: Fields, theirs: Fields, ignored: ReadonlySet<string>) {
  const found: ShadowDifference[] = []
  for (const field of new Set([...Object.keys(ours), ...Object.keys(theirs)])) {
    const [a, b] = [ours[field], theirs[field]]
    if (ignored.has(field)) {
      if (typeof a !== typeof b) found.push({ field, ours: typeof a, theirs: typeof b })
    } else if (field === 'orders' && isList(a) && isList(b)) {
      found.push(...compareLists(a, b, ignored))
    } else if (JSON.stringify(a) !== JSON.stringify(b)) {
      found.push({ field, ours: shown(field, a), theirs: shown(field, b) })
    }
  }
  return found
}

function compareLists(
  ours: readonly Fields[],
  theirs: readonly Fields[],
  ignored: ReadonlySet<string>,
) {
  const found: ShadowDifference[] = []
  const longer = ours.length > theirs.length ? ours : theirs
  const at = longer.findIndex((_, index) => ours[index]?.['id'] !== theirs[index]?.['id'])
  if (at !== -1) {
    const at1 = `${at + 1}. of `
    found.push({
      field: 'orders',
      ours: `${at1}${ours.length}: ${String(ours[at]?.['id'])}`,
      theirs: `${at1}${theirs.length}: ${String(theirs[at]?.['id'])}`,
    })
  }
  const byId = new Map(theirs.map((order) => [order['id'], order]))
  for (const order of ours) {
    const other = byId.get(order['id'])
    if (other === undefined) continue
    for (const difference of compareFields(order, other, ignored))
      found.push({ ...difference, order: String(order['id']) })
  }
  return found
}

/** With the reason that the answer gives. */
function statusOf({ status }: ShadowAnswer, fields: Fields | undefined): string {
  const reason = fields?.['code'] ?? fields?.['error']
  return typeof reason === 'string' ? `${status} ${reason}` : String(status)
}

function typeOf({ contentType }: ShadowAnswer): string {
  return contentType.toLowerCase().replaceAll(/\s/gu, '')
}

function shown(field: string, value: unknown): string | undefined {
  if (value === undefined) return undefined
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  return plainFields.has(field) ? text : hashOf(text)
}

function without(comment: string, text: string | undefined): string | undefined {
  if (text === undefined || comment === '' || !text.includes(comment)) return text
  return hashOf(text)
}

function hashOf(value: string | Buffer): string {
  return `sha256:${createHash('sha256').update(value).digest('hex').slice(0, 16)}`
}

function isList(value: unknown): value is readonly Fields[] {
  return Array.isArray(value) && value.every(isFields)
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
