import { isUtf8 } from 'node:buffer'

import type { Part } from '../contracts/multipart-reader.ts'
import { checkForm } from './api-contract.ts'
import type { StoredModel } from './model-store.ts'
import { invalidField, Refusal } from './refusal.ts'

export interface Submission {
  readonly externalId: string
  readonly material: string
  readonly quantity: number
  readonly comment: string | null
  readonly model: StoredModel
}

const longestField = 10_000
/** Bytes; what the MES takes. */
export const longestModel = 100 * 2 ** 20
/** With its fields and whatever stands around them. */
export const longestBody = longestModel + 2 ** 20
const fieldNames = new Set(['external_id', 'material', 'quantity', 'comment'])
/** Spaces around these do not count. */
const trimmed = new Set(['external_id', 'material', 'quantity'])

/** @throws Refusal `too_large`: before a byte of the body is read */
export function checkLength(contentLength: string | undefined): void {
  if (Number(contentLength ?? 0) > longestBody)
    throw new Refusal('too_large', 'the model is too large')
}

/**
 * Reads an order as it comes in: the model goes to the store while it is hashed, wherever in the body it stands. A field that comes
 * twice has its last value, and unknown ones are passed over, as at the MES.
 * @throws Refusal about the first thing in the body that is wrong; whatever the parts throw
 */
export async function readSubmission<Given extends Part>(
  parts: AsyncIterable<Given>,
  store: (model: Given, longest: number) => Promise<StoredModel>,
): Promise<Submission> {
  const fields: Record<string, string> = {}
  let model: StoredModel | undefined
  for await (const part of parts) {
    if (part.name === 'model') {
      if (!part.isFile) throw invalidField('model', 'model must be a file')
      if (model !== undefined) throw invalidField('model', 'only one model is allowed')
      model = await store(part, longestModel)
    } else if (fieldNames.has(part.name)) {
      const text = await fieldText(part.name, part.content)
      fields[part.name] = trimmed.has(part.name) ? text.trim() : text
    }
  }
  checkForm(model === undefined ? fields : { ...fields, model: model.key })
  return {
    externalId: fields['external_id']!,
    material: fields['material']!,
    quantity: Number(fields['quantity']),
    comment: fields['comment'] || null,
    model: model!,
  }
}

async function fieldText(name: string, content: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of content) {
    length += chunk.length
    if (length > longestField)
      throw new Refusal('too_large', `${name} is too long`, { pointer: `#/${name}` })
    chunks.push(chunk)
  }
  const bytes = Buffer.concat(chunks)
  // PostgreSQL has no NUL in a text.
  if (!isUtf8(bytes) || bytes.includes(0)) throw invalidField(name, `${name} is not a text`)
  return bytes.toString('utf8')
}
