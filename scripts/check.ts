// Types, lint, format and dead code, one after the other: a line each, and the output of what failed.
import { spawnSync } from 'node:child_process'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')

const tools = [
  { name: 'types', command: ['tsc', '-p', '.'] },
  { name: 'lint', command: ['oxlint'] },
  { name: 'format', command: ['oxfmt', '--check'] },
  { name: 'unused', command: ['knip'] },
] as const

let failed = false
for (const { name, command } of tools) {
  const [tool, ...args] = command
  const run = spawnSync(process.execPath, [join(root, 'node_modules', '.bin', tool), ...args], {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  })
  const ok = run.status === 0
  failed ||= !ok
  console.log(`${name.padEnd(7)} ${ok ? 'ok' : 'FAILED'}  (${command.join(' ')})`)
  if (!ok) console.log(`${run.stdout}${run.stderr}${run.error?.message ?? ''}`)
}
process.exitCode = failed ? 1 : 0
