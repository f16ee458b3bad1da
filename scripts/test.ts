import { spawnSync } from 'node:child_process'
import { join, resolve } from 'node:path'

import { runAva } from './command-line/run-ava.ts'

/** `npm test [-- <file> ...]`: types, then AVA. Exit code: that of the first that failed. */
const root = resolve(import.meta.dirname, '..')

const types = spawnSync(
  process.execPath,
  [join(root, 'node_modules/typescript/bin/tsc'), '-p', '.'],
  { cwd: root, stdio: 'inherit' },
)
process.exitCode = types.status === 0 ? await runAva(process.argv.slice(2)) : (types.status ?? 1)
