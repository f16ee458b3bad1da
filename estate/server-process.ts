import { spawn } from 'node:child_process'

import { endsWithParent } from '../runtime/ends-with-parent.ts'
import { killTree, signalProcess, thawTree } from './process-tree.ts'
import { RecentLines } from './recent-lines.ts'

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface ServerCommand {
  readonly name: string
  readonly command: readonly [string, ...string[]]
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string
  /** The server's own word that it accepts connections. */
  readonly readyLine: RegExp
  readonly readyWithinMs: number
  /** What the kernel sends it when we die, however we die. */
  readonly deathSignal: NodeJS.Signals
  /** More options of setpriv: a change of user. */
  readonly privileges?: readonly string[]
}

export interface ServerProcess {
  readonly pid: number
  readonly exited: Promise<Exit>
  /** From then on the pid may be somebody else's. */
  readonly hasExited: boolean
  readonly output: RecentLines
}

/** Starts a server and resolves when it says that it is ready; otherwise nothing is left running. */
export async function startServerProcess(what: ServerCommand): Promise<ServerProcess> {
  const [command, ...args] = endsWithParent(what.command, what.deathSignal, what.privileges)
  const child = spawn(command, args, {
    cwd: what.cwd,
    env: { ...what.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    // Its own process group: Ctrl-C in the terminal reaches us, and we stop it in our order.
    detached: true,
  })
  const output = new RecentLines()
  output.read(child.stdout)
  output.read(child.stderr)

  let startError: Error | undefined
  let hasExited = false
  const exited = new Promise<Exit>((resolve) => {
    child.once('error', (error) => {
      if (child.pid === undefined) resolve({ code: null, signal: null })
      startError = error
    })
    child.once('exit', (code, signal) => {
      hasExited = true
      resolve({ code, signal })
    })
  })
  const failure = (reason: string): Error =>
    new Error([`${what.name}: ${reason}`, ...output.last(20)].join('\n  '), { cause: startError })

  const ready = new Promise<'ready'>((resolve) => {
    const off = output.onLine((line) => {
      if (!what.readyLine.test(line)) return
      off()
      resolve('ready')
    })
  })
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<'late'>((resolve) => {
    timer = setTimeout(resolve, what.readyWithinMs, 'late')
  })
  const outcome = await Promise.race([ready, exited, late])
  clearTimeout(timer)

  if (outcome === 'late') {
    child.kill('SIGKILL')
    await exited
    throw failure(`not ready within ${what.readyWithinMs} ms`)
  }
  if (outcome !== 'ready' || child.pid === undefined) {
    // The last words may still be in the pipe when the exit arrives.
    await new Promise((resolve) => setImmediate(resolve))
    const exit = await exited
    throw failure(`ended at start (code ${exit.code}, signal ${exit.signal})`)
  }
  return {
    pid: child.pid,
    exited,
    output,
    get hasExited() {
      return hasExited
    },
  }
}

/**
 * Sends the signals one after the other, each with its time to work, and at last `kill -9` to the
 * whole tree. Resolves when the server is gone.
 */
export async function endServer(
  server: ServerProcess,
  signals: readonly (readonly [NodeJS.Signals, number])[],
): Promise<void> {
  for (const [signal, ms] of signals) {
    if (server.hasExited) return
    // One that was paused cannot hear a signal.
    thawTree(server.pid)
    signalProcess(server.pid, signal)
    if (await endedWithin(server, ms)) return
  }
  if (!server.hasExited) await killTree(server.pid)
  await server.exited
}

async function endedWithin(server: ServerProcess, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(resolve, ms, false)
  })
  const ended = await Promise.race([server.exited.then(() => true), late])
  clearTimeout(timer)
  return ended
}
