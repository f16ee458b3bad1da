import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'

import { freePort } from './free-port.ts'
import { postgresBinaries, postgresVersion } from './postgres-binaries.ts'
import { databasesOf, keepExisting, withClient } from './postgres-server.ts'
import type { PostgresRestart, PostgresServer } from './postgres-server.ts'
import { postgresUser } from './postgres-user.ts'
import type { PostgresUser } from './postgres-user.ts'
import { copyPrepared, keepPrepared, type PreparedData, preparedFrom } from './prepared-data.ts'
import { createPrivateDirectory } from './private-directory.ts'
import { isRunning } from './process-table.ts'
import { endServer, startServerProcess } from './server-process.ts'
import type { ServerProcess } from './server-process.ts'
import { SupervisedServer } from './supervised-server.ts'

export interface EmbeddedPostgresOptions {
  /**
   * A folder of the server's own that outlives it (made when missing; inside: the data, the
   * superuser's password). Without it a temporary one, removed at stop.
   */
  readonly dataDirectory?: string
  /** What the server of a temporary folder begins with: made once, copied from then on. Without it nothing. */
  readonly filled?: { readonly data: PreparedData; make(server: PostgresServer): Promise<void> }
  readonly settings?: Readonly<Record<string, string>>
  readonly port?: number
}

export interface EmbeddedPostgres extends PostgresServer {
  /** Of the postmaster; changes with a restart. */
  readonly pid: number
  /** The end of the server's log. */
  lastLines(count?: number): string[]
}

/**
 * PostgreSQL from the npm package, supervised by this process and ended with it, however it ends.
 * It listens on 127.0.0.1 alone, with a password that was random when its data was made (see `prepared-data.ts`), and fsync
 * stays on: what it has committed outlives a `kill -9`.
 */
export async function startEmbeddedPostgres(
  options: EmbeddedPostgresOptions = {},
): Promise<EmbeddedPostgres> {
  const temporary = createPrivateDirectory('postgres')
  try {
    const home = resolve(options.dataDirectory ?? temporary.path)
    await mkdir(home, { recursive: true })
    if (options.dataDirectory !== undefined) await chmod(home, 0o711)

    const user = postgresUser()
    user.mustReach(home)
    const native = await postgresBinaries(user, temporary.path)
    const data = join(home, 'data')
    const filled = options.dataDirectory === undefined ? options.filled : undefined
    const isFilled = filled !== undefined && (await copyPrepared(filled.data, home))
    if (options.dataDirectory !== undefined) {
      if (!existsSync(join(data, 'PG_VERSION'))) await initialise(user, native, home, true)
    } else if (!isFilled && !(await copyPrepared(empty(), home))) {
      await initialise(user, native, home, false)
      await keepPrepared(empty(), home)
    }
    const password = await superuserPassword(home)

    const port = options.port ?? (await freePort())
    const url = `postgres://postgres:${password}@127.0.0.1:${port}/postgres`
    const statementStatistics = join(native, 'lib', 'postgresql', 'pg_stat_statements.so')
    const settings: Record<string, string> = {
      port: `${port}`,
      listen_addresses: '127.0.0.1',
      unix_socket_directories: '',
      wal_level: 'logical',
      max_replication_slots: '10',
      max_wal_senders: '10',
      max_connections: '300',
      ...(existsSync(statementStatistics) && { shared_preload_libraries: 'pg_stat_statements' }),
      ...options.settings,
    }
    const hasStatementStatistics =
      settings['shared_preload_libraries']?.includes('pg_stat_statements') === true

    const start = async (): Promise<ServerProcess> => {
      await removeStalePidFile(data)
      return startServerProcess({
        name: 'postgres',
        command: [
          join(native, 'bin', 'postgres'),
          '-D',
          data,
          ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
        ],
        env: { LC_ALL: 'C' },
        cwd: '/',
        readyLine: /database system is ready to accept connections/,
        readyWithinMs: 60_000,
        // A fast shutdown: the data is left clean, and no postmaster.pid.
        deathSignal: 'SIGINT',
        privileges: user.privileges,
      })
    }

    const server = await SupervisedServer.start(start)
    const embedded: EmbeddedPostgres = {
      url,
      port,
      hasStatementStatistics,
      get pid() {
        return server.pid
      },
      lastLines: (count) => server.lastLines(count),
      ...databasesOf(url, keepExisting),
      restart: (mode) => server.restart(endings[mode]),
      pause: () => server.pause(),
      resume: () => server.resume(),
      stop: async () => {
        await server.stop(shutDown)
        temporary.remove()
      },
    }
    try {
      if (hasStatementStatistics) {
        await withClient(url, (client) =>
          client.query('create extension if not exists pg_stat_statements'),
        )
      }
      if (filled !== undefined && !isFilled) {
        await filled.make(embedded)
        await server.restart(async (running) => {
          await shutDown(running)
          await keepPrepared(filled.data, home)
        })
      }
    } catch (error) {
      await server.stop(shutDown)
      throw error
    }
    return embedded
  } catch (error) {
    temporary.remove()
    throw error
  }
}

const ofTheData = [
  '--username=postgres',
  '--auth=scram-sha-256',
  // Not the machine's locale: a text sorts the same everywhere.
  '--encoding=UTF8',
  '--locale-provider=builtin',
  '--builtin-locale=C.UTF-8',
  '--locale=C',
  '--set=timezone=UTC',
  '--set=log_timezone=UTC',
  '--no-instructions',
]

function empty(): PreparedData {
  return preparedFrom('empty', [], [postgresVersion(), ...ofTheData].join(' '))
}

async function initialise(
  user: PostgresUser,
  native: string,
  home: string,
  outlivesUs: boolean,
): Promise<void> {
  const data = join(home, 'data')
  const password = await superuserPassword(home)
  // Renamed when complete: a half made one would look like data.
  const making = `${data}.new`
  await rm(making, { recursive: true, force: true })
  await mkdir(making, { mode: 0o700 })
  await user.own(making)
  const passwordFile = join(home, 'initdb-password')
  await writeFile(passwordFile, password, { mode: 0o600 })
  await user.own(passwordFile)
  try {
    await user.run(
      join(native, 'bin', 'initdb'),
      [
        `--pgdata=${making}`,
        `--pwfile=${passwordFile}`,
        ...ofTheData,
        // Of the empty data only, against power loss; not the server's fsync.
        ...(outlivesUs ? [] : ['--no-sync']),
      ],
      { LC_ALL: 'C' },
    )
    await rename(making, data)
  } catch (cause) {
    await rm(making, { recursive: true, force: true })
    throw new Error(`initdb failed in ${data}`, { cause })
  } finally {
    await rm(passwordFile, { force: true })
  }
}

/** Kept beside the data, for a folder that is used again. */
async function superuserPassword(home: string): Promise<string> {
  const file = join(home, 'superuser-password')
  if (existsSync(file)) return (await readFile(file, 'utf8')).trim()
  const password = randomBytes(24).toString('hex')
  await writeFile(file, password, { mode: 0o600 })
  return password
}

/** After a `kill -9` the file names a pid that is gone, or a zombie that PostgreSQL takes for alive. */
async function removeStalePidFile(data: string): Promise<void> {
  const file = join(data, 'postmaster.pid')
  if (!existsSync(file)) return
  const pid = Number((await readFile(file, 'utf8')).split('\n')[0])
  if (!isRunning(pid)) await rm(file, { force: true })
}

/** A replication client that reads nothing holds a fast shutdown up for a minute: hence the second. */
function shutDown(server: ServerProcess): Promise<void> {
  return endServer(server, [
    ['SIGINT', 5000],
    ['SIGQUIT', 5000],
  ])
}

const endings: Readonly<Record<PostgresRestart, (server: ServerProcess) => Promise<void>>> = {
  fast: shutDown,
  immediate: (server) => endServer(server, [['SIGQUIT', 5000]]),
  // The backends too: one that lives on keeps the shared memory, and the new server refuses to start.
  kill9: (server) => endServer(server, []),
}
