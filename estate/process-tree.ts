import { setTimeout as delay } from 'node:timers/promises'

import { errorCode } from './error-code.ts'
import { descendantsOf, isRunning, isStopped } from './process-table.ts'

/** Sends a signal; a process that is gone already is no error. */
export function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if (errorCode(error) !== 'ESRCH') throw error
  }
}

/**
 * Stops a process where it stands (SIGSTOP); when this returns, it executes nothing any more.
 *
 * @throws Error when the kernel has not stopped it within 15 s.
 */
export function freezeProcess(pid: number): void {
  signalProcess(pid, 'SIGSTOP')
  const giveUpAt = Date.now() + 15_000
  while (!isStopped(pid)) {
    if (Date.now() > giveUpAt) throw new Error(`process ${pid} did not stop within 15 s`)
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1)
  }
}

/**
 * Stops a process and its descendants where they stand, the parent first: a stopped parent forks no
 * child that the list would miss. Returns the pids stopped.
 */
export function freezeTree(pid: number): number[] {
  const frozen = new Set([pid])
  freezeProcess(pid)
  for (;;) {
    const late = descendantsOf(pid).filter((descendant) => !frozen.has(descendant))
    if (late.length === 0) return [...frozen]
    for (const descendant of late) {
      freezeProcess(descendant)
      frozen.add(descendant)
    }
  }
}

export function thawTree(pid: number): void {
  for (const member of [...descendantsOf(pid), pid]) signalProcess(member, 'SIGCONT')
}

/**
 * `kill -9` of a process and all its descendants at one moment, as if the machine had lost them.
 * Resolves when none of them runs any more.
 */
export async function killTree(pid: number): Promise<void> {
  const members = freezeTree(pid)
  for (const member of members) signalProcess(member, 'SIGKILL')
  await goneFromTable(members)
}

/** Linux has no signal for the end of a process that is not our child, so this looks every 5 ms. */
export async function goneFromTable(pids: readonly number[]): Promise<void> {
  const giveUpAt = Date.now() + 15_000
  while (pids.some(isRunning)) {
    if (Date.now() > giveUpAt) {
      throw new Error(`processes ${pids.filter(isRunning).join(', ')} did not end within 15 s`)
    }
    await delay(5)
  }
}
