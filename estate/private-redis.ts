import { readdir, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'

import { findExecutable } from '../runtime/find-executable.ts'
import { freePort } from './free-port.ts'
import { createPrivateDirectory } from './private-directory.ts'
import { endServer, startServerProcess } from './server-process.ts'
import type { ServerProcess } from './server-process.ts'
import { SupervisedServer } from './supervised-server.ts'

export interface PrivateRedisOptions {
  /** When the append-only file reaches the disk; 'no' keeps nothing over a restart. */
  readonly appendonly?: 'everysec' | 'always' | 'no'
  readonly policy?: 'noeviction' | 'allkeys-lru' | 'volatile-lru' | 'allkeys-random'
  readonly port?: number
  /** Outlives the server; without it a temporary one, removed at stop. */
  readonly directory?: string
}

export interface PrivateRedis {
  readonly url: string
  readonly port: number
  readonly pid: number
  /** Same port; `wipe` removes the data in between, as if the machine had been lost. */
  restart(mode: 'term' | 'kill9', options?: { readonly wipe?: boolean }): Promise<void>
  pause(): void
  resume(): void
  stop(): Promise<void>
  lastLines(count?: number): string[]
}

/** The program, or undefined where Redis is not installed: it has no npm package to come from. */
export function findRedisServer(): string | undefined {
  return findExecutable('redis-server')
}

/** A Redis of this process on a port and folder of its own; never the machine's. */
export async function startPrivateRedis(options: PrivateRedisOptions = {}): Promise<PrivateRedis> {
  const program = findRedisServer()
  if (program === undefined) throw new Error('redis-server is not installed')

  const temporary = createPrivateDirectory('redis')
  try {
    const directory = resolve(options.directory ?? temporary.path)
    const port = options.port ?? (await freePort())
    const appendonly = options.appendonly ?? 'everysec'
    const start = (): Promise<ServerProcess> =>
      startServerProcess({
        name: 'redis',
        command: [
          program,
          ...configuration({
            bind: '127.0.0.1',
            port: `${port}`,
            dir: directory,
            save: '',
            appendonly: appendonly === 'no' ? 'no' : 'yes',
            appendfsync: appendonly,
            'maxmemory-policy': options.policy ?? 'noeviction',
          }),
        ],
        env: {},
        cwd: directory,
        readyLine: /Ready to accept connections/,
        readyWithinMs: 30_000,
        // Also ends one that is paused. What was written to the file stays written.
        deathSignal: 'SIGKILL',
      })

    const server = await SupervisedServer.start(start)
    return {
      url: `redis://127.0.0.1:${port}`,
      port,
      get pid() {
        return server.pid
      },
      lastLines: (count) => server.lastLines(count),
      restart: (mode, { wipe = false } = {}) =>
        server.restart(async (running) => {
          await endServer(running, mode === 'kill9' ? [] : shutDown)
          if (wipe) await removeData(directory)
        }),
      pause: () => server.pause(),
      resume: () => server.resume(),
      stop: async () => {
        await server.stop((running) => endServer(running, shutDown))
        temporary.remove()
      },
    }
  } catch (error) {
    temporary.remove()
    throw error
  }
}

const shutDown = [['SIGTERM', 5000]] as const

async function removeData(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (name.startsWith('appendonly') || name.endsWith('.rdb') || name.endsWith('.aof')) {
      await rm(join(directory, name), { recursive: true, force: true })
    }
  }
}

function configuration(settings: Readonly<Record<string, string>>): string[] {
  return Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value])
}
