import { execFile } from 'node:child_process'
import { appendFile, mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

import type pg from 'pg'

import { type EmbeddedPostgres, startEmbeddedPostgres } from '../estate/embedded-postgres.ts'
import { freePort } from '../estate/free-port.ts'
import { postgresBinaries } from '../estate/postgres-binaries.ts'
import { withClient } from '../estate/postgres-server.ts'
import { postgresUser } from '../estate/postgres-user.ts'
import { createPrivateDirectory } from '../estate/private-directory.ts'
import { endServer, startServerProcess } from '../estate/server-process.ts'
import { waitUntil } from './wait-until.ts'

const run = promisify(execFile)
const name = 'standby'

/** The primary answers no commit before the standby has it. */
export interface ReplicatedPostgres {
  readonly primary: EmbeddedPostgres
  readonly standby: {
    readonly port: number
    /** Resolves when it takes writes. */
    promote(): Promise<void>
  }
  stop(): Promise<void>
}

/** An empty server, and a synchronous standby that streams from it. */
export async function startReplicatedPostgres(): Promise<ReplicatedPostgres> {
  // What the standby has not got yet must still be there when it begins.
  const primary = await startEmbeddedPostgres({ settings: { wal_keep_size: '256MB' } })
  const directory = createPrivateDirectory('postgres')
  try {
    const user = postgresUser()
    const native = await postgresBinaries(user, directory.path)
    const data = join(directory.path, 'data')
    await copyData(primary.url, data)
    const port = await freePort()
    await writeFile(join(data, 'standby.signal'), '')
    const { password } = new URL(primary.url)
    await appendFile(
      join(data, 'postgresql.auto.conf'),
      `primary_conninfo = 'host=127.0.0.1 port=${primary.port} user=postgres password=${password} application_name=${name}'\n`,
    )
    for (const file of ['standby.signal', 'backup_label', 'pg_wal'])
      await user.own(join(data, file))
    const settings = {
      port: `${port}`,
      listen_addresses: '127.0.0.1',
      unix_socket_directories: '',
      wal_level: 'logical',
      max_connections: '300',
      max_wal_senders: '10',
      shared_preload_libraries: primary.hasStatementStatistics ? 'pg_stat_statements' : '',
    }
    const server = await startServerProcess({
      name,
      command: [
        join(native, 'bin', 'postgres'),
        '-D',
        data,
        ...Object.entries(settings).flatMap(([setting, value]) => ['-c', `${setting}=${value}`]),
      ],
      env: { LC_ALL: 'C' },
      cwd: '/',
      readyLine: /database system is ready to accept read-only connections/,
      readyWithinMs: 60_000,
      deathSignal: 'SIGKILL',
      privileges: user.privileges,
    })
    const stop = async (): Promise<void> => {
      // The standby first: a primary that ends cleanly waits for it.
      await endServer(server, [['SIGQUIT', 5000]])
      await primary.stop()
      directory.remove()
    }
    try {
      await withClient(primary.url, (client) => makeSynchronous(client))
    } catch (error) {
      await stop()
      throw error
    }
    const url = new URL(primary.url)
    url.port = `${port}`
    return {
      primary,
      standby: {
        port,
        promote: () =>
          withClient(url.href, async (client) => {
            await client.query('SELECT pg_promote()')
          }),
      },
      stop,
    }
  } catch (error) {
    await primary.stop()
    directory.remove()
    throw error
  }
}

async function makeSynchronous(client: pg.Client): Promise<void> {
  await client.query(`ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (${name})'`)
  await client.query('SELECT pg_reload_conf()')
  await waitUntil('the standby is synchronous', async () => {
    const { rows } = await client.query<{ state: string }>(
      'SELECT sync_state AS state FROM pg_stat_replication WHERE application_name = $1',
      [name],
    )
    return rows[0]?.state === 'quorum'
  })
}

/** A base backup by hand: the package has no pg_basebackup. Nothing else uses the server meanwhile. */
async function copyData(url: string, to: string): Promise<void> {
  await withClient(url, async (client) => {
    const { rows: setting } = await client.query<{ from: string }>(
      `SELECT current_setting('data_directory') AS from`,
    )
    const { from } = setting[0]!
    await client.query(`SELECT pg_backup_start('standby', fast => true)`)
    await run('cp', ['-a', '--reflink=auto', from, to])
    const { rows } = await client.query<{ label: string }>(
      'SELECT labelfile AS label FROM pg_backup_stop(wait_for_archive => false)',
    )
    for (const each of ['postmaster.pid', 'postmaster.opts', 'pg_wal'])
      await rm(join(to, each), { recursive: true, force: true })
    await mkdir(join(to, 'pg_wal'), { mode: 0o700 })
    await writeFile(join(to, 'backup_label'), rows[0]!.label)
  })
}
