import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'

import { inheritedEnvironment } from '../runtime/config.ts'
import { endsWithParent } from '../runtime/ends-with-parent.ts'
import { freezeProcess, signalProcess } from './process-tree.ts'
import { RecentLines } from './recent-lines.ts'
import type { Exit } from './server-process.ts'

export interface SpawnNodeOptions {
  readonly args?: readonly string[]
  /** Given to the process as it is, plus PATH, HOME, TZ and where compiled code is kept; nothing else of ours is inherited. */
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
}

/**
 * A Node process of ours: `starting` until it sends `{ type: 'ready', port }` over IPC, then `ready`,
 * then `exited`; a restart begins again. All fields are of the present life.
 */
export interface NodeProcess {
  readonly name: string
  readonly pid: number
  /** What it said with `ready`; a restart gives it back as PORT. */
  readonly port: number | undefined
  /** Rejects with the last lines when the process ends before it is ready. */
  readonly ready: Promise<void>
  readonly exited: Promise<Exit>
  readonly output: RecentLines
  kill(signal: NodeJS.Signals): void
  /** SIGTERM, and SIGKILL after the deadline. Resolves when it has ended; safe twice. */
  terminate(deadlineMs?: number): Promise<Exit>
  pause(): void
  resume(): void
  /** Ends it when it runs; resolves when it is ready again, on the same port. */
  restart(): Promise<void>
  /** Lines of stdout and stderr, over restarts, until the returned function is called. */
  onLine(listener: (line: string) => void): () => void
  lastLines(count?: number): string[]
}

export function spawnNode(name: string, file: string, options: SpawnNodeOptions = {}): NodeProcess {
  const output = new RecentLines()
  let life = startLife(name, file, options, output)

  const terminate = async (deadlineMs = 10_000): Promise<Exit> => {
    const ending = life
    ending.signal('SIGTERM')
    // A paused process keeps the SIGTERM waiting until it goes on.
    ending.signal('SIGCONT')
    const timer = setTimeout(() => ending.signal('SIGKILL'), deadlineMs)
    const exit = await ending.exited
    clearTimeout(timer)
    return exit
  }

  return {
    name,
    output,
    get pid() {
      return life.pid
    },
    get port() {
      return life.port
    },
    get ready() {
      return life.ready
    },
    get exited() {
      return life.exited
    },
    kill: (signal) => life.signal(signal),
    terminate,
    pause: () => life.freeze(),
    resume: () => life.signal('SIGCONT'),
    restart: async () => {
      const { port } = life
      await terminate()
      const env = port === undefined ? options.env : { ...options.env, PORT: `${port}` }
      life = startLife(name, file, { ...options, ...(env && { env }) }, output)
      await life.ready
    },
    onLine: (listener) => output.onLine(listener),
    lastLines: (count) => output.last(count),
  }
}

interface Life {
  readonly pid: number
  readonly port: number | undefined
  readonly ready: Promise<void>
  readonly exited: Promise<Exit>
  signal(signal: NodeJS.Signals): void
  freeze(): void
}

function startLife(
  name: string,
  file: string,
  { args = [], env = {}, cwd = process.cwd() }: SpawnNodeOptions,
  output: RecentLines,
): Life {
  // The child ends itself when the IPC channel closes; the kernel's SIGKILL is for the one that is
  // paused or busy when we die.
  const [command, ...rest] = endsWithParent([process.execPath, file, ...args], 'SIGKILL')
  const child = spawn(command, rest, {
    cwd,
    env: { ...inherited(), ...env },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    // Its own process group: Ctrl-C in the terminal reaches us, and we stop it in our order.
    detached: true,
  })
  if (child.stdout !== null) output.read(child.stdout)
  if (child.stderr !== null) output.read(child.stderr)

  let port: number | undefined
  let running = true
  const exited = new Promise<Exit>((resolve) => {
    child.once('exit', (code, signal) => {
      running = false
      resolve({ code, signal })
    })
    child.once('error', () => {
      if (child.pid === undefined) resolve({ code: null, signal: null })
    })
  })
  const ready = new Promise<void>((resolve, reject) => {
    child.on('message', (message) => {
      if (!isReady(message)) return
      port = message.port
      resolve()
    })
    void endOfOutput(child, exited).then(({ code, signal }) =>
      reject(
        new Error(
          [
            `${name} ended before it was ready (code ${code}, signal ${signal})`,
            ...output.last(20),
          ].join('\n  '),
        ),
      ),
    )
  })
  // Whoever waits for it hears of it; nobody has to.
  ready.catch(() => {})

  return {
    pid: child.pid ?? 0,
    get port() {
      return port
    },
    ready,
    exited,
    signal: (signal) => {
      if (running && child.pid !== undefined) signalProcess(child.pid, signal)
    },
    freeze: () => {
      if (running && child.pid !== undefined) freezeProcess(child.pid)
    },
  }
}

/** The exit, after the last line has been read, or soon: a grandchild may hold the pipes open. */
async function endOfOutput(child: ChildProcess, exited: Promise<Exit>): Promise<Exit> {
  const closed = new Promise<void>((resolve) => {
    child.once('close', () => resolve())
  })
  const exit = await exited
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, 500)
  })
  await Promise.race([closed, late])
  clearTimeout(timer)
  return exit
}

function inherited(): Record<string, string> {
  const ours = inheritedEnvironment()
  return Object.fromEntries(
    ['PATH', 'HOME', 'TZ', 'NODE_COMPILE_CACHE'].flatMap((name) => {
      const value = ours[name]
      return value === undefined ? [] : [[name, value]]
    }),
  )
}

function isReady(message: unknown): message is { type: 'ready'; port?: number } {
  return (
    typeof message === 'object' &&
    message !== null &&
    'type' in message &&
    message.type === 'ready' &&
    (!('port' in message) || message.port === undefined || typeof message.port === 'number')
  )
}
