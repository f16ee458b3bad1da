import { spawn } from 'node:child_process'
import { once } from 'node:events'

import { inheritedEnvironment } from '../runtime/config.ts'

const script = new URL('../scripts/strangler.ts', import.meta.url).pathname

export interface Said {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

// Where compiled code is kept is no setting: it only makes the start cheaper.
const { NODE_COMPILE_CACHE = '' } = inheritedEnvironment()

/** The command as a process of its own, with nothing in its environment but what is given. */
export async function runStrangler(
  args: readonly string[],
  environment: Record<string, string>,
  cwd: string,
): Promise<Said> {
  const child = spawn(process.execPath, [script, ...args], {
    env: { NODE_COMPILE_CACHE, ...environment },
    cwd,
  })
  let out = ''
  let err = ''
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
  await once(child, 'close')
  return { code: child.exitCode, out, err }
}
