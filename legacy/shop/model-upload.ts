import type { Request } from 'express'

import { modelTooLarge, type ModelStore } from '../model-store.ts'
import { fileNameOf } from './file-name.ts'
import type { Orders } from './orders.ts'

/** Everything that can be refused is refused before the body is read. */
export async function uploadModel(
  request: Request,
  id: string,
  { orders, store, longest, now }: ModelUpload,
): Promise<Readonly<Record<string, unknown>>> {
  await orders.mayUpload(id)
  fileNameOf(request.headers['content-disposition'])
  if (Number(request.headers['content-length'] ?? 0) > longest) throw modelTooLarge(longest)
  // A request destroyed with the iterator could not be answered any more.
  const model = await store.store(request.iterator({ destroyOnReturn: false }), longest)
  await orders.attachModel(id, model, now())
  return { id, status: 'FILE_UPLOADED', sha256: model.sha256, bytes: model.bytes }
}

export type ModelUpload = {
  readonly orders: Orders
  readonly store: ModelStore
  readonly longest: number
  readonly now: () => Date
}
