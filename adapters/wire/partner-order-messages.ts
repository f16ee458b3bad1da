import { isPartnerOrderId } from '../../contracts/partner-order.ts'

/** An order of a partner, as the intake has stored it. */
export interface StoredPartnerOrder {
  readonly orderId: string
  readonly partner: string
  readonly externalId: string
  readonly material: string
  readonly quantity: number
  readonly comment: string | null
  readonly modelKey: string
  readonly modelSha256: string
  readonly modelBytes: number
  readonly createdAt: Date
}

/** The properties that the MES puts on its messages. */
export const mesProperties = {
  contentType: 'application/json',
  deliveryMode: 2,
  headers: { 'x-sender': 'mes' },
} as const

/** `order.created` exactly as the MES tells CRM of an order that it has taken itself: same keys, same order, same forms. */
export function orderCreatedBody(order: StoredPartnerOrder): Buffer {
  return Buffer.from(
    JSON.stringify({
      ...identityOf(order),
      partner: order.partner,
      externalId: order.externalId,
      ...contentOf(order),
    }),
  )
}

/** `order.submitted` for an order of a partner: CRM's form, with what the MES keeps of a partner's order. */
export function partnerOrderSubmittedBody(order: StoredPartnerOrder): Buffer {
  return Buffer.from(
    JSON.stringify({
      ...identityOf(order),
      partner: order.partner,
      externalId: order.externalId,
      clientId: null,
      customerTier: null,
      ...contentOf(order),
    }),
  )
}

function identityOf({ orderId, createdAt }: StoredPartnerOrder) {
  return {
    orderId,
    source: 'partner',
    status: 'SUBMITTED',
    occurredAt: createdAt.toISOString(),
  }
}

function contentOf(order: StoredPartnerOrder) {
  const { material, quantity, comment, modelKey, modelSha256, modelBytes } = order
  return {
    material,
    quantity,
    comment,
    model: { key: modelKey, sha256: modelSha256, bytes: modelBytes },
  }
}

/**
 * The content of an `order.created`, or undefined when it is not one that an order can be made of: whatever is given back, a database
 * takes, since a message that can't be stored is tried for ever, and everything waits behind it.
 */
export function readOrderCreated(body: Buffer): StoredPartnerOrder | undefined {
  const fields = objectOf(parsed(body))
  const model = objectOf(fields?.['model'])
  if (fields === undefined || model === undefined) return undefined
  const { orderId, partner, externalId, material, quantity, comment, occurredAt } = fields
  const { key, sha256, bytes } = model
  if (
    typeof orderId !== 'string' ||
    typeof partner !== 'string' ||
    typeof externalId !== 'string' ||
    typeof material !== 'string' ||
    typeof quantity !== 'number' ||
    typeof key !== 'string' ||
    typeof sha256 !== 'string' ||
    typeof bytes !== 'number' ||
    typeof occurredAt !== 'string' ||
    !/^\d{4}-/u.test(occurredAt) ||
    Number.isNaN(Date.parse(occurredAt)) ||
    !isPartnerOrderId(orderId) ||
    !isCount(quantity, 2 ** 31) ||
    !isCount(bytes, Number.MAX_SAFE_INTEGER) ||
    [partner, externalId, material, comment, key, sha256].some(
      (text) => typeof text === 'string' && text.includes('\0'),
    )
  )
    return undefined
  return {
    orderId,
    partner,
    externalId,
    material,
    quantity,
    comment: typeof comment === 'string' ? comment : null,
    modelKey: key,
    modelSha256: sha256,
    modelBytes: bytes,
    createdAt: new Date(occurredAt),
  }
}

function isCount(value: number, below: number): boolean {
  return Number.isInteger(value) && value >= 0 && value < below
}

function parsed(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'))
  } catch {
    return undefined
  }
}

function objectOf(value: unknown): Readonly<Record<string, unknown>> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value))
    : undefined
}
