import { stat } from 'node:fs/promises'
import { join } from 'node:path'

/** What a row says of its model: only the reference goes through queues. */
export interface ModelReference {
  readonly key: string
  readonly bytes: number
}

/** Of these references those that the store, a folder, does not have, or has only a part of. */
export async function modelsMissing<Reference extends ModelReference>(
  directory: string,
  references: readonly Reference[],
): Promise<Reference[]> {
  const missing: Reference[] = []
  for (const reference of references) {
    const bytes = await sizeOf(join(directory, reference.key))
    if (bytes !== reference.bytes) missing.push(reference)
  }
  return missing
}

async function sizeOf(file: string): Promise<number | undefined> {
  try {
    return (await stat(file)).size
  } catch (error) {
    // A folder that may not be read says nothing of what is in it.
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}
