import { globSync } from 'node:fs'
import { basename, resolve } from 'node:path'

import { StranglerError } from '../contracts/errors.ts'
import { parseOptions } from './command-line/parse-options.ts'
import { runAva } from './command-line/run-ava.ts'
import { runScript } from './command-line/run-script.ts'

const root = resolve(import.meta.dirname, '..')
const ending = '.matrix.ts'
const files = new Map(
  globSync(`{adapters/*,estate,test}/*${ending}`, { cwd: root })
    .toSorted()
    .map((file) => [basename(file, ending), file]),
)

const usage = `npm run matrix [-- <case> ...] [--short] [--json]

Runs the failure matrix: every process and server killed, cut off, frozen or filled up at each step, and storms of flips, while orders
flow; and every runbook, command by command. All of its cases, or those that are named. A case is a file <case>${ending}. Progress is
AVA's.

Cases: ${[...files.keys()].join(', ')}

  --short  fewer orders (test/full-size.ts), and two cases at a time; about ten minutes instead of an hour
  --json   only the result on stdout; the progress on stderr

Exit codes: 0 every case passed; 1 one failed; 2 bad usage or it could not run.`

const args = process.argv.slice(2)
await runScript('matrix', args, async () => {
  const { values, positionals } = parseOptions(
    { short: { type: 'boolean' }, json: { type: 'boolean' }, help: { type: 'boolean' } },
    args,
  )
  if (values.help === true) {
    process.stdout.write(`${usage}\n`)
    return 0
  }
  const strange = positionals.find((name) => !files.has(name))
  if (strange !== undefined)
    throw new StranglerError(
      'invalid_argument',
      `expected a case of ${[...files.keys()].join(', ')}, got ${strange}`,
    )
  const cases = positionals.length === 0 ? [...files.keys()] : positionals
  const began = performance.now()
  const code = await runAva(
    [
      ...(values.short === true ? [] : ['--concurrency', '1']),
      ...cases.map((name) => files.get(name)!),
    ],
    { SUITE: 'matrix', FULL_SIZE: values.short === true ? '0' : '1' },
    values.json === true,
  )
  const seconds = Math.round((performance.now() - began) / 1000)
  const passed = code === 0
  if (values.json === true) process.stdout.write(`${JSON.stringify({ cases, passed, seconds })}\n`)
  process.stderr.write(`${passed ? 'passed' : 'FAILED'}: ${cases.length} cases, ${seconds} s\n`)
  return passed ? 0 : 1
})
