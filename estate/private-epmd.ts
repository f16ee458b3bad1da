import { readdirSync } from 'node:fs'
import { join } from 'node:path'

import { findExecutable } from '../runtime/find-executable.ts'
import { startServerProcess } from './server-process.ts'
import type { ServerProcess } from './server-process.ts'

/**
 * Erlang's name server on a port of our own. Started before RabbitMQ, which otherwise starts one as
 * a daemon that belongs to nobody and outlives every node.
 */
export function startPrivateEpmd(port: number): Promise<ServerProcess> {
  const program = findExecutable('epmd') ?? findInErlang()
  if (program === undefined) throw new Error('epmd of Erlang is not installed')
  return startServerProcess({
    name: 'epmd',
    command: [program, '-d', '-d', '-d', '-address', '127.0.0.1', '-port', `${port}`],
    env: {},
    cwd: '/',
    readyLine: /entering the main select\(\) loop/,
    readyWithinMs: 10_000,
    deathSignal: 'SIGKILL',
  })
}

/** Erlang keeps it beside its machine: /usr/lib/erlang/erts-<version>/bin. */
function findInErlang(): string | undefined {
  const root = '/usr/lib/erlang'
  try {
    const runtime = readdirSync(root).find((name) => name.startsWith('erts-'))
    return runtime === undefined ? undefined : join(root, runtime, 'bin', 'epmd')
  } catch {
    return undefined
  }
}
