import { createHash } from 'node:crypto'

/** What a partner asks for; `comment` null = none. */
export interface PartnerOrderContent {
  readonly externalId: string
  readonly material: string
  readonly quantity: number
  readonly comment: string | null
  /** Hex. */
  readonly modelSha256: string
}

const uuidForm = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/iu

/** The id of a partner's order is a UUID on every side. */
export function isPartnerOrderId(id: string): boolean {
  return uuidForm.test(id)
}

/** The key of an order that brings none of its own: its partner's number. */
export function externalIdKey(externalId: string): Buffer {
  return createHash('sha256').update(`external_id\n${externalId}`).digest()
}

export function idempotencyKey(key: string): Buffer {
  return createHash('sha256').update(`Idempotency-Key\n${key}`).digest()
}

/** Tells one request from another: over what was asked for, never over the body, whose boundary changes with every retry. */
export function requestHash(content: PartnerOrderContent): Buffer {
  const { externalId, material, quantity, comment, modelSha256 } = content
  return createHash('sha256')
    .update(JSON.stringify([externalId, material, quantity, comment, modelSha256]))
    .digest()
}

/** The answer to a new order, byte for byte as the MES gives it. */
export function acceptedBody(orderId: string, externalId: string): Buffer {
  return Buffer.from(JSON.stringify({ id: orderId, external_id: externalId, status: 'SUBMITTED' }))
}
