import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { closedToOthers } from './closed-to-others.ts'
import { isRunning, readProcess } from './process-table.ts'

const prefix = 'strangler-estate-'

export interface PrivateDirectory {
  readonly path: string
  remove(): void
}

/**
 * A temporary folder of this process, 0711: a server that runs as another user reaches what is its
 * own inside, nobody lists it. Folders whose owner was killed before it could remove them are
 * removed by the next one that comes.
 */
export function createPrivateDirectory(kind: string): PrivateDirectory {
  const parent = reachableTemporaryFolder()
  removeAbandoned(parent)
  const path = mkdtempSync(join(parent, `${prefix}${kind}-`))
  chmodSync(path, 0o711)
  writeFileSync(join(path, 'owner'), `${process.pid} ${readProcess(process.pid)?.startedAt ?? ''}`)
  return { path, remove: () => rmSync(path, { recursive: true, force: true, maxRetries: 5 }) }
}

/** TMPDIR may lie below a 0700 folder, where a server that runs as `nobody` cannot go. */
function reachableTemporaryFolder(): string {
  const wanted = tmpdir()
  return process.getuid?.() !== 0 || closedToOthers(wanted) === undefined ? wanted : '/tmp'
}

function removeAbandoned(parent: string): void {
  for (const name of readdirSync(parent)) {
    if (!name.startsWith(prefix)) continue
    const path = join(parent, name)
    try {
      if (statSync(path).uid !== process.getuid?.()) continue
      const [pid, startedAt] = readFileSync(join(path, 'owner'), 'utf8').split(' ')
      const owner = readProcess(Number(pid))
      const ownerLives = owner !== undefined && owner.startedAt === startedAt
      if (!ownerLives && !serverStillRuns(path)) rmSync(path, { recursive: true, force: true })
    } catch {
      // Somebody else is removing it, or it is just being made: not ours to judge.
    }
  }
}

/** The server of a killed owner may still be writing its last checkpoint. */
function serverStillRuns(path: string): boolean {
  try {
    const pid = readFileSync(join(path, 'data', 'postmaster.pid'), 'utf8').split('\n')[0]
    return isRunning(Number(pid))
  } catch {
    return false
  }
}
