import { findExecutable } from './find-executable.ts'

/**
 * Wraps a command so that the kernel ends it when we die, also by SIGKILL: `setpriv --pdeathsig`
 * (util-linux) sets it for itself and becomes the command, so the pid stays that of the command.
 * The kernel watches the thread that spawned: spawn from the main thread. It forgets the wish in
 * children of the command, so the command itself has to end what it starts.
 */
export function endsWithParent(
  command: readonly [string, ...string[]],
  deathSignal: NodeJS.Signals,
  privileges: readonly string[] = [],
): [string, ...string[]] {
  const setpriv = findExecutable('setpriv')
  if (setpriv === undefined) {
    if (process.platform !== 'linux' && privileges.length === 0) return [...command]
    throw new Error('setpriv is missing: install util-linux')
  }
  const signalName = deathSignal.replace('SIG', '')
  return [setpriv, ...privileges, '--pdeathsig', signalName, '--', ...command]
}
