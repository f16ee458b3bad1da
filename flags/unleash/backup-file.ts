import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import type { ClientFeaturesResponse } from 'unleash-client'

import type { Log } from '../../runtime/log.ts'

/** What the client keeps over restarts. It tells people what was last heard; it is never taken for the wish. */
export interface BackupFile {
  /** Known after the first `get`. */
  readonly found: 'none' | 'read' | 'torn' | undefined
  get(key: string): Promise<ClientFeaturesResponse | undefined>
  set(key: string, data: ClientFeaturesResponse): Promise<void>
  /** Resolves when no write is under way. */
  written(): Promise<void>
}

/**
 * In a folder of its own, for us alone: the client's own provider writes over the file in place, by default in the system's
 * temporary folder, so that a crash leaves half of it. A disk that is full costs the backup and nothing else.
 */
export function backupFile(directory: string, log: Log): BackupFile {
  const path = join(directory, 'flags.json')
  let found: BackupFile['found']
  let complained = false
  let writing = Promise.resolve()
  const write = async (data: ClientFeaturesResponse): Promise<void> => {
    try {
      await mkdir(directory, { recursive: true, mode: 0o700 })
      await writeFile(`${path}.new`, JSON.stringify(data), { mode: 0o600 })
      await rename(`${path}.new`, path)
      complained = false
    } catch (error) {
      if (!complained) log.warn('unleash_backup_not_written', { path, reason: String(error) })
      complained = true
    }
  }
  return {
    get found() {
      return found
    },
    async get() {
      try {
        const data: unknown = JSON.parse(await readFile(path, 'utf8'))
        if (!isList(data)) throw new Error('no list of flags')
        found = 'read'
        return data
      } catch (error) {
        const absent = error instanceof Error && 'code' in error && error.code === 'ENOENT'
        // Every new client reads it again: once is enough to be told.
        if (!absent && found !== 'torn') log.warn('unleash_backup_torn', { path })
        found = absent ? 'none' : 'torn'
        return undefined
      }
    },
    set(_key, data) {
      writing = writing.then(() => write(data))
      return writing
    },
    written: () => writing,
  }
}

function isList(data: unknown): data is ClientFeaturesResponse {
  return (
    typeof data === 'object' && data !== null && 'features' in data && Array.isArray(data.features)
  )
}
