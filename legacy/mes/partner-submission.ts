import { isUtf8 } from 'node:buffer'

import type { ModelStore, StoredModel } from '../model-store.ts'
import { Refusal } from '../refusal.ts'
import { MultipartReader } from './multipart-reader.ts'

export type PartnerSubmission = {
  readonly externalId: string
  readonly material: string
  readonly quantity: number
  readonly comment: string | null
  readonly model: StoredModel
}

const longestField = 10_000
const longestModel = 100 * 2 ** 20
const fields = ['external_id', 'material', 'quantity', 'comment']

/** Fields and file in any order; unknown fields are passed over. */
export async function readPartnerSubmission(
  body: AsyncIterable<Buffer>,
  headers: { 'content-type'?: string | undefined; 'content-length'?: string | undefined },
  store: ModelStore,
): Promise<PartnerSubmission> {
  const longest = longestModel + 2 ** 20
  if (Number(headers['content-length'] ?? 0) > longest) throw tooLarge('the model is too large')
  const values = new Map<string, string>()
  let model: StoredModel | undefined
  for await (const part of new MultipartReader(body, headers['content-type']).parts()) {
    if (part.name === 'model') {
      if (!part.isFile) throw invalid('model must be a file')
      if (model) throw invalid('only one model is allowed')
      model = await store.store(part.content, longestModel)
    } else if (fields.includes(part.name)) {
      values.set(part.name, await fieldText(part.name, part.content))
    }
  }
  if (!model) throw invalid('model is missing')
  const quantity = required(values, 'quantity', 10)
  if (!/^[1-9]\d{0,6}$/u.test(quantity) || Number(quantity) > 1_000_000) {
    throw invalid('quantity must be a whole number from 1 to 1000000')
  }
  return {
    externalId: required(values, 'external_id', 200),
    material: required(values, 'material', 100),
    quantity: Number(quantity),
    comment: values.get('comment') || null,
    model,
  }
}

function required(values: ReadonlyMap<string, string>, name: string, longest: number): string {
  const value = values.get(name)?.trim()
  if (!value) throw invalid(`${name} is missing`)
  if (value.length > longest) throw invalid(`${name} is longer than ${longest} characters`)
  return value
}

async function fieldText(name: string, content: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of content) {
    length += chunk.length
    if (length > longestField) throw tooLarge(`${name} is too long`)
    chunks.push(chunk)
  }
  const bytes = Buffer.concat(chunks)
  if (!isUtf8(bytes) || bytes.includes(0)) throw invalid(`${name} is not a text`)
  return bytes.toString('utf8')
}

function invalid(message: string): Refusal {
  return new Refusal(400, 'invalid_field', message)
}

function tooLarge(message: string): Refusal {
  return new Refusal(413, 'too_large', message)
}
