import { accessSync, constants, statSync } from 'node:fs'
import { delimiter, join } from 'node:path'

import { inheritedEnvironment } from './config.ts'

/** Where a program is: on PATH, or in the folders a service's own user would have on it. */
export function findExecutable(name: string): string | undefined {
  const onPath = (inheritedEnvironment()['PATH'] ?? '').split(delimiter)
  for (const folder of [...onPath, '/usr/bin', '/usr/sbin', '/usr/local/bin']) {
    if (folder === '') continue
    const file = join(folder, name)
    try {
      accessSync(file, constants.X_OK)
      if (statSync(file).isFile()) return file
    } catch {
      // not here
    }
  }
  return undefined
}
