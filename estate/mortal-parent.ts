import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'

/** For tests of what outlives a parent: another Node process, which starts things and is killed. */
export interface MortalParent {
  readonly pid: number
  /** The first line it printed. */
  readonly line: string
  /** SIGKILL; resolves when it is gone. What it had started is the test's to look for. */
  killNow(): Promise<void>
}

/** Runs the code (a module; imports by URL) and resolves with the first line it prints. */
export async function startMortalParent(
  t: { teardown(end: () => Promise<void>): void },
  code: string,
): Promise<MortalParent> {
  const parent = spawn(process.execPath, ['--input-type=module', '-e', code], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exited = once(parent, 'exit')
  const killNow = async (): Promise<void> => {
    parent.kill('SIGKILL')
    await exited
  }
  // A test that fails before the kill leaves nothing either: AVA waits for what still runs.
  t.teardown(killNow)
  const line = await Promise.race([
    once(createInterface({ input: parent.stdout }), 'line'),
    exited.then(() => Promise.reject(new Error('ended before it printed a line'))),
  ])
  return {
    pid: parent.pid ?? 0,
    line: String(line[0]),
    killNow,
  }
}
