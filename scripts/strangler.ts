import { writeSync } from 'node:fs'

import { runCommand } from './command-line/run-command.ts'
import { catalog } from './commands/catalog.ts'
const print = (stream: 1 | 2, text: string): void => {
  const bytes = Buffer.from(`${text}\n`)
  try {
    // A pipe may take less than all at once.
    for (let written = 0; written < bytes.length;) written += writeSync(stream, bytes, written)
  } catch (error) {
    // The reader has gone (`| head`): nothing is left to tell it.
    if (!(error instanceof Error && 'code' in error && error.code === 'EPIPE')) throw error
  }
}

process.exitCode = await runCommand(
  catalog,
  process.argv.slice(2),
  { out: (text) => print(1, text), err: (text) => print(2, text) },
  process.cwd(),
)
