import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const root = join(import.meta.dirname, '..')

/** Closed to others: with the data stands its superuser's password. */
const shelf = join(root, 'node_modules', '.cache', 'strangler-postgres')
const parts = ['data', 'superuser-password'] as const
const oldMs = 3_600_000

/**
 * What a server's data was made from. Making it takes seconds (initdb, databases, migrations), a copy of it a tenth of one; so
 * it is kept under a name that changes with everything it was made from, and the next server begins with a copy.
 *
 * A folder on the shelf is complete when it has its name (it is renamed), and is never written again: any number of processes
 * may keep and copy at once. A shelf that cannot be written or read costs time, nothing else.
 */
export interface PreparedData {
  readonly kind: string
  readonly key: string
}

/** The content of files (of folders: of all files in them), by their paths from the root of the project. */
export function preparedFrom(kind: string, paths: readonly string[], more = ''): PreparedData {
  const digest = createHash('sha256').update(more)
  for (const path of paths) {
    for (const file of filesOf(path)) digest.update(`\0${file}\0`).update(readFileSync(file))
  }
  return { kind, key: digest.digest('hex').slice(0, 32) }
}

function filesOf(path: string): string[] {
  const full = join(root, path)
  if (!statSync(full).isDirectory()) return [full]
  return readdirSync(full, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .toSorted()
}

/** Copies the data and its password into `home`; false when there is none, and then nothing is left in `home`. */
export async function copyPrepared(data: PreparedData, home: string): Promise<boolean> {
  const from = join(shelf, nameOf(data))
  if (!existsSync(from)) return false
  try {
    await copyParts(from, home)
    return true
  } catch {
    for (const part of parts) await rm(join(home, part), { recursive: true, force: true })
    // It may be damaged, and would be in the way of the next one.
    await rm(from, { recursive: true, force: true }).catch(() => undefined)
    return false
  }
}

/** Keeps what is in `home` for others. The server on it must have shut down cleanly. */
export async function keepPrepared(data: PreparedData, home: string): Promise<void> {
  try {
    await mkdir(shelf, { recursive: true, mode: 0o700 })
    await removeOld(data)
    const making = await mkdtemp(join(shelf, `${data.kind}-making-`))
    try {
      await copyParts(home, making)
      await rename(making, join(shelf, nameOf(data)))
    } finally {
      await rm(making, { recursive: true, force: true })
    }
  } catch {
    // Another process has kept the same, or the shelf is not ours to write.
  }
}

/** With owner and mode: the data belongs to the user of the server. */
async function copyParts(from: string, to: string): Promise<void> {
  await run('cp', ['-a', '--reflink=auto', ...parts.map((part) => join(from, part)), to])
}

/** What was made from other files, or by a process that was killed over it; nobody is still copying what is that old. */
async function removeOld({ kind, key }: PreparedData): Promise<void> {
  for (const name of await readdir(shelf)) {
    if (!name.startsWith(`${kind}-`) || name === nameOf({ kind, key })) continue
    const path = join(shelf, name)
    const { mtimeMs } = await stat(path)
    if (Date.now() - mtimeMs > oldMs) await rm(path, { recursive: true, force: true })
  }
}

function nameOf({ kind, key }: PreparedData): string {
  return `${kind}-${key}`
}
