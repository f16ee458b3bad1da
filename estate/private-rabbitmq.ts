import { execFile } from 'node:child_process'
import { existsSync, realpathSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'

import { findExecutable } from '../runtime/find-executable.ts'
import { freePort } from './free-port.ts'
import { createPrivateDirectory } from './private-directory.ts'
import { startPrivateEpmd } from './private-epmd.ts'
import { endServer, startServerProcess } from './server-process.ts'
import type { ServerProcess } from './server-process.ts'
import { SupervisedServer } from './supervised-server.ts'

const run = promisify(execFile)

export interface PrivateRabbitmq {
  readonly url: string
  readonly port: number
  readonly managementUrl: string
  readonly pid: number
  /** Same ports and data. */
  restart(mode: 'term' | 'kill9'): Promise<void>
  pause(): void
  resume(): void
  stop(): Promise<void>
  /** rabbitmqctl on this node; returns what it printed. */
  ctl(...args: string[]): Promise<string>
  lastLines(count?: number): string[]
}

/** The server's own script; the one Debian puts on PATH switches to the user of the service. */
export function findRabbitmqServer(): string | undefined {
  const onPath = findExecutable('rabbitmq-server')
  const candidates = [
    '/usr/lib/rabbitmq/bin/rabbitmq-server',
    ...(onPath === undefined ? [] : [realpathSync(onPath)]),
  ]
  return candidates.find(
    (script) =>
      existsSync(script) && existsSync(join(dirname(realpathSync(script)), 'rabbitmq-env')),
  )
}

/** A RabbitMQ node of this process with management plugin; never the machine's node, ports or epmd. */
export async function startPrivateRabbitmq(): Promise<PrivateRabbitmq> {
  const script = findRabbitmqServer()
  if (script === undefined) throw new Error('rabbitmq-server is not installed')

  const temporary = createPrivateDirectory('rabbitmq')
  try {
    const home = temporary.path
    const port = await freePort()
    const managementPort = await freePort()
    const epmdPort = await freePort()
    const distributionPort = await freePort()

    const files = {
      config: join(home, 'rabbitmq.conf'),
      plugins: join(home, 'enabled_plugins'),
      data: join(home, 'mnesia'),
      logs: join(home, 'log'),
    }
    await mkdir(files.data)
    await mkdir(files.logs)
    await writeFile(files.plugins, '[rabbitmq_management].\n')
    await writeFile(
      files.config,
      [
        'management.tcp.ip = 127.0.0.1',
        `management.tcp.port = ${managementPort}`,
        'collect_statistics_interval = 1000',
        'log.console = true',
        'log.console.level = info',
        'log.file = false',
        '',
      ].join('\n'),
    )

    const env = {
      PATH: `${dirname(script)}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
      // Of its own: the cookie is made there.
      HOME: home,
      LC_ALL: 'C.UTF-8',
      ERL_EPMD_PORT: `${epmdPort}`,
      ERL_EPMD_ADDRESS: '127.0.0.1',
      RABBITMQ_NODENAME: `strangler${port}@localhost`,
      RABBITMQ_NODE_IP_ADDRESS: '127.0.0.1',
      RABBITMQ_NODE_PORT: `${port}`,
      RABBITMQ_DIST_PORT: `${distributionPort}`,
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '-kernel inet_dist_use_interface {127,0,0,1}',
      RABBITMQ_MNESIA_BASE: files.data,
      RABBITMQ_LOG_BASE: files.logs,
      RABBITMQ_CONFIG_FILE: files.config,
      RABBITMQ_ENABLED_PLUGINS_FILE: files.plugins,
      RABBITMQ_PID_FILE: join(home, 'pid'),
      RABBITMQ_CONF_ENV_FILE: '/dev/null',
      // The script then becomes the Erlang machine instead of starting it: signals, the pid and the
      // wish to die with us are the broker's own.
      RUNNING_UNDER_SYSTEMD: 'true',
    }

    const epmd = await startPrivateEpmd(epmdPort)
    const start = (): Promise<ServerProcess> =>
      startServerProcess({
        name: 'rabbitmq',
        command: [script],
        env,
        cwd: home,
        readyLine: /Server startup complete/,
        readyWithinMs: 90_000,
        deathSignal: 'SIGKILL',
      })
    const server = await SupervisedServer.start(start).catch(async (error: unknown) => {
      await endServer(epmd, [])
      throw error
    })

    return {
      url: `amqp://guest:guest@127.0.0.1:${port}`,
      port,
      managementUrl: `http://guest:guest@127.0.0.1:${managementPort}`,
      get pid() {
        return server.pid
      },
      lastLines: (count) => server.lastLines(count),
      restart: (mode) =>
        server.restart((running) => endServer(running, mode === 'kill9' ? [] : shutDown)),
      pause: () => server.pause(),
      resume: () => server.resume(),
      stop: async () => {
        // Its data goes with it, and a clean end takes 5 s, in which its management waits for itself.
        await server.stop(async (running) => {
          await endServer(running, [])
          await endServer(epmd, [])
        })
        temporary.remove()
      },
      ctl: async (...args) => {
        const { stdout } = await run(join(dirname(script), 'rabbitmqctl'), ['--quiet', ...args], {
          env,
          cwd: home,
        })
        return stdout
      },
    }
  } catch (error) {
    temporary.remove()
    throw error
  }
}

const shutDown = [['SIGTERM', 20_000]] as const
