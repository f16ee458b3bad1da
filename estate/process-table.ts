import { readdirSync, readFileSync } from 'node:fs'

export interface ProcessEntry {
  readonly pid: number
  readonly state: string
  readonly parent: number
  /** Clock ticks since boot: tells a process from a later one that got the same pid. */
  readonly startedAt: string
}

/** What /proc says of a process; undefined when it is gone, or where there is no /proc. */
export function readProcess(pid: number): ProcessEntry | undefined {
  const entry = readState(`/proc/${pid}/stat`)
  return entry && { pid, ...entry }
}

function readState(file: string): Omit<ProcessEntry, 'pid'> | undefined {
  let stat: string
  try {
    stat = readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
  // The second field is the command in brackets and may itself contain blanks and brackets.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return {
    state: fields[0] ?? '?',
    parent: Number(fields[1]),
    startedAt: fields[19] ?? '',
  }
}

/** A zombie does not run: where process 1 does not reap, it keeps its pid for ever. */
export function isRunning(pid: number): boolean {
  const entry = readProcess(pid)
  return entry !== undefined && entry.state !== 'Z' && entry.state !== 'X'
}

/**
 * Whether nothing of a process executes any more: each of its threads is stopped or has ended. The kernel stops a thread
 * only when that is next scheduled, so for a while after SIGSTOP some still work, the more so on a busy machine.
 */
export function isStopped(pid: number): boolean {
  let threads: string[]
  try {
    threads = readdirSync(`/proc/${pid}/task`)
  } catch {
    return true
  }
  return threads.every((thread) => {
    const state = readState(`/proc/${pid}/task/${thread}/stat`)?.state
    return state === undefined || 'TtZX'.includes(state)
  })
}

/** All running descendants of a process, parents before children, without the process itself. */
export function descendantsOf(pid: number): number[] {
  const childrenByParent = new Map<number, number[]>()
  for (const name of readdirSync('/proc')) {
    const entry = /^\d+$/.test(name) ? readProcess(Number(name)) : undefined
    if (entry === undefined || entry.state === 'Z') continue
    childrenByParent.set(entry.parent, [...(childrenByParent.get(entry.parent) ?? []), entry.pid])
  }
  const found: number[] = []
  const open = [pid]
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const children = childrenByParent.get(next) ?? []
    found.push(...children)
    open.push(...children)
  }
  return found
}
