import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, statfsSync } from 'node:fs'
import { freemem } from 'node:os'
import { join, resolve } from 'node:path'

import { inheritedEnvironment, optional, readConfig, text } from '../../runtime/config.ts'
import { endsWithParent } from '../../runtime/ends-with-parent.ts'

const root = resolve(import.meta.dirname, '../..')
const memory = '/dev/shm'
/** Two estates at once with their models and logs need less than a third of it. */
const neededBytes = 6 * 1024 ** 3

/** Runs AVA in the project's root, and gives its exit code. `quiet`: what it prints goes to stderr. */
export async function runAva(
  args: readonly string[],
  settings: Readonly<Record<string, string>> = {},
  quiet = false,
): Promise<number> {
  const TMPDIR = temporaryFolder()
  const [command, ...rest] = endsWithParent(
    [process.execPath, join(root, 'node_modules/ava/entrypoints/cli.js'), ...args],
    'SIGTERM',
  )
  const ava = spawn(command, rest, {
    cwd: root,
    stdio: ['inherit', quiet ? process.stderr : 'inherit', 'inherit'],
    env: {
      ...inheritedEnvironment(),
      ...(TMPDIR === undefined ? {} : { TMPDIR }),
      ...settings,
    },
  })
  const stop = (signal: NodeJS.Signals): boolean => ava.kill(signal)
  process.on('SIGINT', stop).on('SIGTERM', stop)
  try {
    const [code]: unknown[] = await once(ava, 'exit')
    return typeof code === 'number' ? code : 1
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop)
  }
}

/**
 * Where the tests put their servers' data: in memory, where there is room. The suite makes and deletes a hundred thousand files,
 * which on a disk takes a third of its processor time (ext4 without a journal is slow to use a deleted file's place again). What a
 * `kill -9` must not lose is as safe there: it dies with the machine, not with a process.
 */
function temporaryFolder(): string | undefined {
  const { TMPDIR: wanted } = readConfig({ TMPDIR: optional(text()) })
  if (wanted !== undefined) return wanted
  return hasRoom() ? memory : undefined
}

function hasRoom(): boolean {
  try {
    const mount = readFileSync('/proc/mounts', 'utf8')
      .split('\n')
      .map((line) => line.split(' '))
      .find(([, place, type]) => place === memory && type === 'tmpfs')
    const options = mount?.[3]?.split(',') ?? ['noexec']
    // Programs may be run from there: a checkout that the server's user cannot read is copied.
    if (options.includes('noexec') || options.includes('ro')) return false
    const { bavail, bsize } = statfsSync(memory)
    return Math.min(bavail * bsize, freemem()) >= neededBytes
  } catch {
    return false
  }
}
