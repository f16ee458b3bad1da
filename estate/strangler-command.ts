import { join } from 'node:path'

import { inheritedEnvironment } from '../runtime/config.ts'
import { type CommandResult, run } from './run-command.ts'

const script = join(import.meta.dirname, '../scripts/strangler.ts')

/** Runs the `strangler` command with these settings beside the environment's own; resolves with any exit code. */
export function strangler(
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
): Promise<CommandResult> {
  return run(
    process.execPath,
    [script, ...args],
    { ...inheritedEnvironment(), ...environment },
    true,
  )
}
