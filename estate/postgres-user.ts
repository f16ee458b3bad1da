import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { chown } from 'node:fs/promises'
import { promisify } from 'node:util'

import { endsWithParent } from '../runtime/ends-with-parent.ts'
import { closedToOthers } from './closed-to-others.ts'

const run = promisify(execFile)

/** Who the server runs as: PostgreSQL refuses root, so root becomes `nobody`, who owns nothing. */
export interface PostgresUser {
  /** Options of setpriv that make the change. */
  readonly privileges: readonly string[]
  /** Throws when a folder above is closed to the user. */
  mustReach(path: string): void
  own(path: string): Promise<void>
  canRun(program: string): Promise<boolean>
  run(program: string, args: readonly string[], env: Record<string, string>): Promise<void>
}

export function postgresUser(): PostgresUser {
  const nobody = process.getuid?.() === 0 ? findNobody() : undefined
  const privileges =
    nobody === undefined
      ? []
      : ['--reuid', `${nobody.uid}`, '--regid', `${nobody.gid}`, '--clear-groups']

  const asUser = async (
    program: string,
    args: readonly string[],
    env: Record<string, string>,
  ): Promise<void> => {
    const [command, ...rest] = endsWithParent([program, ...args], 'SIGKILL', privileges)
    // "/" because the caller's folder may be closed to the user.
    await run(command, rest, { env, cwd: '/' })
  }

  return {
    privileges,
    mustReach: (path) => {
      const closed = nobody === undefined ? undefined : closedToOthers(path)
      if (closed === undefined) return
      throw new Error(
        `${path}: as root PostgreSQL runs as "nobody", who may not enter ${closed}; ` +
          `choose another folder or run "chmod o+x ${closed}"`,
      )
    },
    own: async (path) => {
      if (nobody !== undefined) await chown(path, nobody.uid, nobody.gid)
    },
    // `--version` is enough: the linker has then found every library.
    canRun: (program) =>
      asUser(program, ['--version'], {}).then(
        () => true,
        () => false,
      ),
    run: asUser,
  }
}

function findNobody(): { uid: number; gid: number } {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith('nobody:'))
  const [, , uid, gid] = line?.split(':') ?? []
  return { uid: Number(uid ?? 65_534), gid: Number(gid ?? 65_534) }
}
